"""A part of a claim: one norm, or one pair of norms, at one place, with its own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from orchestrator.plan.expand import Trial
from orchestrator.report.claims.material import Cell
from orchestrator.report.words import number
from orchestrator.statistics.decisions import p_greater, p_less
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.power import Spread, seeds_needed
from trainers.catalog import METRICS

Side = Literal["above", "below"]


@dataclass(frozen=True)
class Evidence:
    """What the data say of a part.

    `p_holds` is that of the test which "holds" rests on and `p_fails` that of the one which "fails"
    rests on, both so that 0.05 is the level. `n` counts seeds or sizes, as `n_of` says. `interval`
    is the one over seeds, its estimate `distance` away from the threshold; None where seeds are not
    what a verdict takes.
    """

    estimate: float
    low: float
    high: float
    p_holds: float
    p_fails: float
    n: int
    n_images: int = 0
    n_of: Literal["seeds", "sizes"] = "seeds"
    interval: Interval | None = None
    distance: float = 0.0

    @property
    def needed(self) -> int | Unknown | None:
        """How many seeds in all would decide, with 80 % power at the difference found."""
        return None if self.interval is None else needed_seeds(self.interval, self.distance)

    @property
    def seeds(self) -> str:
        """`3 seeds`, `4 sizes`."""
        return counted(self.n, self.n_of)

    @property
    def images(self) -> str:
        """`5 images`; "" where images are no source of variation."""
        return counted(self.n_images, "images") if self.n_images else ""

    def in_words(self, unit: str) -> str:
        """`slope 0.92 [0.81, 1.03], 3 seeds`."""
        said = (numbers(unit, self.estimate, self.low, self.high), self.seeds, self.images)
        return ", ".join(filter(None, said))


def counted(number: int, plural: str) -> str:
    return f"{number} {plural if number != 1 else plural.removesuffix('s')}"


@dataclass(frozen=True)
class Part:
    """One part. `cells` has the planned trials that it is about, `trials` the ids that it rests on.

    `left_out` says why some of its trials do not count, `advice` what else it would take.
    """

    where: str
    unit: str
    evidence: Evidence | Unknown
    cells: tuple[Cell, ...]
    trials: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def planned(self) -> tuple[Trial, ...]:
        return tuple({t.id: t for cell in self.cells for t in cell.trials}.values())

    @property
    def planned_seeds(self) -> int:
        """How many seeds the sweep has of each norm here."""
        return min((len(cell.trials) for cell in self.cells), default=0)


def beyond(interval: Interval | Unknown, value: float, side: Side = "above") -> Evidence | Unknown:
    """Evidence that the truth is above (or below) a value.

    Both tests are one-sided at 2.5 %: the part holds where the whole 95 % interval lies on that
    side. An interval without an error is no evidence either way.
    """
    if isinstance(interval, Unknown):
        return interval
    above, below = 2 * p_greater(interval, value), 2 * p_less(interval, value)
    holds, fails = (above, below) if side == "above" else (below, above)
    return evidence(interval, holds, fails, abs(interval.estimate - value))


def evidence(interval: Interval, p_holds: float, p_fails: float, distance: float) -> Evidence:
    """The evidence of an interval over seeds, its estimate `distance` away from the threshold."""
    return Evidence(
        interval.estimate,
        interval.low,
        interval.high,
        min(1.0, p_holds),
        min(1.0, p_fails),
        interval.n_seeds,
        interval.n_images,
        interval=interval,
        distance=distance,
    )


def needed_seeds(interval: Interval, distance: float) -> int | Unknown:
    """How many seeds in all would show, with 80 % power at 5 %, a difference of this size."""
    error, seeds = interval.standard_error, interval.n_seeds
    if not 0 < error < math.inf or not math.isfinite(distance):
        return Unknown("the spread over seeds is not known")
    if distance <= 1e-9 * error:
        return Unknown("the estimate is the threshold itself")
    # What the degrees of freedom exceed the seeds' own by comes from a pool of other cells.
    pooled = max(0.0, interval.degrees_of_freedom - (seeds - 1))
    return seeds_needed(distance, Spread(error**2 * seeds, prior_degrees=pooled))


def text_of(unit: str) -> Callable[[float], str]:
    """How numbers of a unit are printed: a metric's with one digit more than in tables."""
    decimals = {
        "dB": METRICS["psnr"].facts["decimals"] + 1,
        "SSIM": METRICS["ssim"].facts["decimals"],
    }
    if unit in decimals:
        return lambda value: f"{value:+.{decimals[unit]}f}"
    return number


def numbers(unit: str, estimate: float, low: float, high: float) -> str:
    """`+0.213 dB [+0.101, +0.325]`, `slope 0.92 [0.81, 1.03]`."""
    text = text_of(unit)
    interval = f"[{text(low)}, {text(high)}]"
    if unit == "dB":
        return f"{text(estimate)} dB {interval}"
    return f"{unit} {text(estimate)} {interval}"
