"""Decides whether a trial has diverged, by all of its ranks together (docs/decisions/0004)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable


class Guard:
    """`sound` while losses and features are finite and mean squares are within `feature_limit`.

    `agreed` says whether something holds on all ranks. They must stop together: a rank that stopped
    alone would leave the others waiting in a collective.
    """

    def __init__(self, feature_limit: float | None, agreed: Callable[[bool], bool]) -> None:
        self.sound = True
        self._limit = math.inf if feature_limit is None else feature_limit
        self._agreed = agreed

    def check_loss(self, mean_loss: float, *, overflowed: bool) -> None:
        """Judge a step by its loss, the same on each rank, and by whether gradients overflowed."""
        self.sound = self.sound and math.isfinite(mean_loss) and not overflowed

    def check_features(self, mean_squares: Iterable[float]) -> None:
        """Judge by the mean squares of the groups' outputs on this rank. All ranks must call."""
        within = all(math.isfinite(value) and value <= self._limit for value in mean_squares)
        # `agreed` comes first because it is a collective, in which every rank has to take part.
        self.sound = self._agreed(within) and self.sound
