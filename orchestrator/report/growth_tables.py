"""Growths and trends as numbers with their limits, in words, and as CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from orchestrator.report.frame import Frame
from orchestrator.report.growths import NormGrowth, NormTrend
from orchestrator.report.words import alike, number
from orchestrator.statistics.growth import Growth
from orchestrator.statistics.interval import Interval, Unknown

LARGEST_EXPONENT = 308  # of 10, in float64


class Span(NamedTuple):
    """A number and its 95 % limits; None for what is not known."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def limits(self) -> str:
        """`[1.2, 3.4]`; "" without an interval."""
        return self.within(number)

    def within(self, shown: Callable[[float | None], str]) -> str:
        """The limits in the form of a column's numbers (orchestrator.report.words.alike)."""
        if self.low is None or self.high is None:
            return ""
        return f"[{shown(self.low)}, {shown(self.high)}]"


def in_column(spans: Iterable[Span]) -> Callable[[float | None], str]:
    """How the numbers of a column and their limits are written."""
    return alike(value for span in spans for value in span)


def factor(found: Growth) -> Span:
    """m(end) / m(0): the geometric mean over seeds. Infinite if one diverged."""
    span = _span(found.log10_growth, [seed.log10_growth for seed in found.seeds])
    return Span(*(None if value is None else power_of_10(value) for value in span))


def start(found: Growth) -> float | None:
    """m(0): the geometric mean over the seeds that have a growth."""
    return _geometric([seed.start for seed in found.seeds])


def end(found: Growth) -> float | None:
    """m(end), as `start`, so that their ratio is the factor. Infinite if a seed diverged."""
    return _geometric([seed.end for seed in found.seeds])


def slope(found: Growth) -> Span:
    """d log m / d log t over the last half of training: the mean over seeds."""
    return _span(found.slope, [seed.slope for seed in found.seeds])


def times(value: float | None, shown: Callable[[float | None], str] = number) -> str:
    """`× 1.20`; a dash alone where the factor is not known."""
    return shown(value) if value is None else f"\N{MULTIPLICATION SIGN} {shown(value)}"


def because(found: Growth) -> str:
    """Why the verdict is what it is, without the numbers that stand beside it in a table."""
    said = found.sentence.removeprefix(f"{found.verdict}: ")
    if isinstance(found.slope, Interval) and math.isfinite(found.slope.estimate):
        return said.partition(" seeds, ")[2]
    return said


def power_of_10(exponent: float) -> float:
    """10^exponent, infinite where float64 has no such number."""
    return math.inf if exponent > LARGEST_EXPONENT else float(10.0**exponent)


def ends(frame: Frame, line: NormTrend) -> tuple[float, float] | None:
    """The smallest and the largest size among the trials of a trend; None without any."""
    sizes = frame.trials.loc[frame.trials["trial"].isin(line.trials), line.measure]
    return (float(sizes.min()), float(sizes.max())) if len(sizes) else None


def points(frame: Frame, growths: Sequence[NormGrowth]) -> pd.DataFrame:
    """Each trial with a growth: its row of the frame and log10; infinite if it diverged."""
    values = {}
    for line in growths:
        for trial, seed in zip(line.trials, line.growth.seeds, strict=True):
            if seed.diverged:
                values[trial] = math.inf
            elif not isinstance(seed.log10_growth, Unknown):
                values[trial] = seed.log10_growth
    rows = frame.trials[frame.trials["trial"].isin(values)]
    return rows.assign(log10=[values[trial] for trial in rows["trial"]])


# --- files ----------------------------------------------------------------------------------------


def growth_csv(frame: Frame, growths: Sequence[NormGrowth]) -> pd.DataFrame:
    """A row for each norm, size, task and recipe, as growth.csv has them."""
    columns = [axis.name for axis in frame.axes if axis.role != "repeat"]
    columns += ["size", "parameters", "seeds", "start", "end"]
    columns += ["growth", "growth_low", "growth_high"]
    columns += ["slope", "slope_low", "slope_high", "margin", "verdict", "sentence", "trials"]
    rows = [
        [
            *line.labels.values(),
            line.size,
            line.parameters,
            sum(not isinstance(seed.slope, Unknown) for seed in line.growth.seeds),
            start(line.growth),
            end(line.growth),
            *factor(line.growth),
            *slope(line.growth),
            line.growth.margin,
            line.growth.verdict,
            line.growth.sentence,
            " ".join(line.trials),
        ]
        for line in growths
    ]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def trend_csv(frame: Frame, trends: Sequence[NormTrend]) -> pd.DataFrame:
    """A row for each norm, task, recipe and measure of size, as correlation.csv has them."""
    columns = [axis.name for axis in frame.axes if axis.role not in ("size", "repeat")]
    columns += ["measure", "smallest", "largest", "n", "rho", "low", "high", "note"]
    columns += ["p", "smallest_p", "exponent", "exponent_low", "exponent_high"]
    columns += ["verdict", "sentence", "trials", "left_out"]
    rows = []
    for line in trends:
        found, rank = line.trend, line.trend.rank
        rows.append(
            [
                *line.labels.values(),
                line.measure,
                *(ends(frame, line) or (None, None)),
                *(rank.n, rank.rho, rank.low, rank.high, rank.note),
                *(_known(found.p), _known(found.smallest_p)),
                *_span(found.slope, []),
                *(found.verdict, found.sentence),
                " ".join(line.trials),
                "; ".join(line.left_out),
            ]
        )
    return pd.DataFrame(rows, columns=columns, dtype=object)


def by_trial(frame: Frame, growths: Sequence[NormGrowth]) -> pd.DataFrame:
    """Growth and slope of each trial of the frame, in its order; empty where there is none."""
    found = {
        trial: (_known(seed.log10_growth), _known(seed.slope))
        for line in growths
        for trial, seed in zip(line.trials, line.growth.seeds, strict=True)
    }
    rows: list[tuple[Any, Any]] = []
    for trial in frame.trials["trial"]:
        log10, steepness = found.get(trial, (None, None))
        rows.append((None if log10 is None else power_of_10(log10), steepness))
    return pd.DataFrame(rows, columns=["growth", "slope"], dtype=object, index=frame.trials.index)


def _span(found: Interval | Unknown, seeds: Sequence[float | Unknown]) -> Span:
    """The interval, or the mean of the seeds alone where there is none."""
    if isinstance(found, Interval):
        return Span(found.estimate, found.low, found.high)
    known = [value for value in seeds if not isinstance(value, Unknown)]
    return Span(fmean(known) if known else None)


def _geometric(values: Sequence[float | None]) -> float | None:
    logarithms = [math.log(value) for value in values if value is not None]
    return math.exp(fmean(logarithms)) if logarithms else None


def _known(value: float | Unknown) -> float | None:
    return None if isinstance(value, Unknown) else value
