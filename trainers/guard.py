"""Whether a trial has diverged, decided by all of its ranks together (docs/decisions/0004)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable


class Guard:
    """`sound` while losses and features are finite and mean squares within `feature_limit`.

    `agreed` says whether something holds on all ranks: one that left alone would leave the others
    waiting in a collective.
    """

    def __init__(self, feature_limit: float | None, agreed: Callable[[bool], bool]) -> None:
        self.sound = True
        self._limit = math.inf if feature_limit is None else feature_limit
        self._agreed = agreed

    def check_loss(self, mean_loss: float, *, overflowed: bool) -> None:
        """The loss of a step, the same on each rank; `overflowed`: gradients were not finite."""
        self.sound = self.sound and math.isfinite(mean_loss) and not overflowed

    def check_features(self, mean_squares: Iterable[float]) -> None:
        """The mean squares of the groups' outputs as this rank measured them. All ranks must call."""
        within = all(math.isfinite(value) and value <= self._limit for value in mean_squares)
        self.sound = self._agreed(within) and self.sound
