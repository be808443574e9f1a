"""Decides whether a trial has diverged, by all of its ranks together (docs/decisions/0004)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable


class Guard:
    """`sound` while losses and features are finite and mean squares are within `feature_limit`.

    `agreed` says whether something holds on all ranks. They must stop together: a rank that stopped
    alone would leave the others waiting in a collective. `why` says what was seen, for people, and
    names the first layer at which it was.
    """

    def __init__(self, feature_limit: float | None, agreed: Callable[[bool], bool]) -> None:
        self.sound = True
        self._limit = math.inf if feature_limit is None else feature_limit
        self._agreed = agreed
        self._seen: list[str] = []

    @property
    def why(self) -> str:
        return "; ".join(self._seen)

    def check_loss(self, mean_loss: float, *, overflowed: bool) -> None:
        """Judge a step by its loss, the same on each rank, and by whether gradients overflowed."""
        if not math.isfinite(mean_loss):
            self._seen.append(f"the loss is {mean_loss}")
        elif overflowed:
            self._seen.append("the gradients are not finite")
        self.sound = self.sound and math.isfinite(mean_loss) and not overflowed

    def check_features(self, mean_squares: Iterable[float]) -> None:
        """Judge by the mean squares of the groups' outputs on this rank. All ranks must call."""
        beyond = self._beyond(mean_squares)
        # `agreed` comes first because it is a collective, in which every rank has to take part.
        within = self._agreed(not beyond)
        if not within:
            self._seen.append(beyond or "features are out of range on another rank")
        self.sound = within and self.sound

    def _beyond(self, mean_squares: Iterable[float]) -> str:
        """Name the first group whose features are out of range; "" if there is none."""
        for number, value in enumerate(mean_squares):
            if not math.isfinite(value):
                return f"features are not finite from group_{number} on"
            if value > self._limit:
                return (
                    f"mean square of features in group_{number} is {value:.3g}, "
                    f"above {self._limit:.3g}"
                )
        return ""
