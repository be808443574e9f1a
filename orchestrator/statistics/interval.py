"""The answer of every function here: an interval, or the reason why there is no number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """A part of a squared standard error, and the degrees of freedom it was estimated with."""

    squared: float
    degrees_of_freedom: float


@dataclass(frozen=True)
class Interval:
    """An estimate, in the unit of the data, with a confidence interval and its origin.

    `level` is the confidence (0.95). `degrees_of_freedom` is math.inf where the interval rests on
    a normal distribution. `n_images` is 0 where images are no source of variation. `generalises_to`
    completes the sentence "95 of 100 such intervals contain the true value for ...", for example
    "other seeds, these images". Estimates and bounds may be infinite, never NaN.

    `parts` is empty where the interval is that of one t. Where several estimated variances add up,
    the degrees of freedom depend on the level: those given are of this one, and tests at another
    level (orchestrator.statistics.decisions) go by the parts.

    Raises:
        ValueError: a number is NaN, the bounds are in the wrong order, or a level, an error or a
            count is out of range.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float
    level: float
    n_seeds: int
    n_images: int
    generalises_to: str
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        if math.isnan(self.estimate) or not self.low <= self.high:
            raise ValueError(f"not an interval: {self.estimate} [{self.low}, {self.high}]")
        if not 0 < self.level < 1 or self.n_seeds < 0 or self.n_images < 0:
            raise ValueError(
                f"level {self.level}, {self.n_seeds} seeds, {self.n_images} images: out of range"
            )
        if not self.standard_error >= 0 or not self.degrees_of_freedom > 0:
            raise ValueError(
                f"standard error {self.standard_error}, "
                f"{self.degrees_of_freedom} degrees of freedom: out of range"
            )


@dataclass(frozen=True)
class Unknown:
    """There is no number, and `reason` says why: a phrase such as "one seed: ..."."""

    reason: str
