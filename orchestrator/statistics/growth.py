"""Divergence: whether the features of a norm still grow at the end of training.

The curve of one trial is the mean square of its largest group, m(t) = max over groups of the mean
of x^2 (paper/protocol section 2). Norms start at different scales (layer_norm at 3.0, i_ln at 0.4),
so growth is m(end) / m(0), in decades: log10. It says how far features got, and nothing about
whether they have settled. That is the slope b of

    log m(t) = a + b log t        over end / 2 <= t <= end,

by least squares, one number per seed: m grows by a factor 2^b when training is twice as long. The
interval is Student's t over the slopes of the seeds,

    mean(b) +- t(n - 1) sd(b) / sqrt(n),

so a seed counts once. The points of one trace follow each other (autocorrelation), and the standard
error of a single fit would be far too small; it is not used.

A trial that has diverged by `end`, or whose features are not finite at any step up to it, has
infinite growth and an infinite slope. It is never left out: the mean over seeds is then infinite,
and the lower limit is that of the finite seeds alone, which a mean with infinite ones exceeds.

The verdict compares the 95 % interval of the slope with one margin (equivalence with one bound; see
docs/decisions/0020 for its value):

    bounded     the upper limit is below MARGIN
    growing     the lower limit is above MARGIN, or more than DIVERGED_SHARE of trainings diverge
    undecided   otherwise, and `sentence` says why

More than DIVERGED_SHARE: the lower limit of Clopper and Pearson's (1934) 95 % interval is above it.
That takes 2 of up to 5 seeds, and is never said from one. Each wrong verdict has at most 2.5 %,
and "growing", which has two ways, at most 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from orchestrator.statistics.interval import Interval, Unknown

MARGIN = 0.5  # d log m / d log t
DIVERGED_SHARE = 0.05
LEVEL = 0.95
OTHER_SEEDS = "other seeds"

Verdict = Literal["bounded", "growing", "undecided"]


@dataclass(frozen=True)
class Trace:
    """The mean squares of one trial: `groups[g][i]` is that of group g after `steps[i]` steps.

    A value that is not a number counts as infinite, as in the report. `diverged_at` is the step at
    which the trial was ended as diverged, if it was. `missing` says why a trial has no trace that
    counts, if so: "running, step 40 of 100".

    Raises:
        ValueError: there is no group, a group has another length than `steps`, or the steps do not
            increase from 0 or more.
    """

    seed: int
    steps: Sequence[int] | NDArray[np.integer[Any]]
    groups: Sequence[Sequence[float] | NDArray[np.floating[Any]]]
    diverged_at: int | None = None
    missing: str = ""

    def __post_init__(self) -> None:
        if not self.groups or any(len(group) != len(self.steps) for group in self.groups):
            raise ValueError(f"seed {self.seed}: every group needs a value for each step")
        if (np.diff(self.steps, prepend=-1) <= 0).any():
            raise ValueError(f"seed {self.seed}: steps must increase from 0 or more")

    def largest(self, end: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The steps up to `end`, and the largest group's mean square at each of them.

        It is infinite if that of any group is not finite.
        """
        steps, groups = np.asarray(self.steps, dtype=np.int64), np.asarray(self.groups, dtype=float)
        largest = np.where(np.isfinite(groups).all(axis=0), groups.max(axis=0), math.inf)
        return steps[steps <= end], largest[steps <= end]


@dataclass(frozen=True)
class SeedGrowth:
    """One trial: log10 of m(end) / m(0), and the slope over the last half. Both may be infinite.

    `start` and `end` are m(0) and m(end), infinite if the trial diverged; None where there is no
    growth.
    """

    seed: int
    log10_growth: float | Unknown
    slope: float | Unknown
    start: float | None = None
    end: float | None = None

    @property
    def diverged(self) -> bool:
        return self.slope == math.inf


@dataclass(frozen=True)
class Growth:
    """The trials of one norm and size, and what they say together."""

    seeds: tuple[SeedGrowth, ...]
    log10_growth: Interval | Unknown
    slope: Interval | Unknown
    margin: float
    verdict: Verdict
    sentence: str


def growth(traces: Sequence[Trace], end: int, margin: float = MARGIN) -> Growth:
    """Growth, slope and verdict from the traces of trials that differ in their seed alone.

    `end` is the step at which training is judged, usually its last. A trace that stops earlier
    without having diverged is left out, and `sentence` says so.

    Raises:
        ValueError: `end` is below 1, or a seed comes twice.
    """
    if end < 1:
        raise ValueError(f"end is {end}: training is judged after at least one step")
    if len({trace.seed for trace in traces}) < len(traces):
        raise ValueError("a seed is given twice: each trial counts once")
    seeds = tuple(_of_seed(trace, end) for trace in traces)
    slope = over_seeds([(seed.seed, seed.slope) for seed in seeds])
    num_diverged, known = sum(s.diverged for s in seeds), sum(_is_known(s.slope) for s in seeds)
    verdict = _verdict(slope, num_diverged, known, margin)
    return Growth(
        seeds,
        over_seeds([(seed.seed, seed.log10_growth) for seed in seeds]),
        slope,
        margin,
        verdict,
        _sentence(seeds, slope, verdict, num_diverged, known, margin),
    )


def _of_seed(trace: Trace, end: int) -> SeedGrowth:
    if trace.missing:
        missing = Unknown(trace.missing)
        return SeedGrowth(trace.seed, missing, missing)
    steps, values = trace.largest(end)
    start = float(values[0]) if len(steps) and steps[0] == 0 else None
    if start is None:
        first: Unknown | None = Unknown("no mean square at step 0")
    elif not 0 < start < math.inf:
        first = Unknown(f"the mean square at step 0 is {start:g}: nothing to compare with")
    else:
        first = None
    gone = trace.diverged_at is not None and trace.diverged_at <= end
    if gone or np.isinf(values).any():
        ends = (None, None) if first else (start, math.inf)
        return SeedGrowth(trace.seed, first or math.inf, math.inf, *ends)
    if not len(steps) or steps[-1] != end:
        last = f"ends at step {steps[-1]}" if len(steps) else "is empty"
        early = Unknown(f"its trace {last}, not at {end}")
        return SeedGrowth(trace.seed, early, early)
    slope, at_end = _slope(steps, values, end), float(values[-1])
    if first is None and at_end <= 0:
        first = Unknown("a mean square of 0 has no logarithm")
    if first is not None:
        return SeedGrowth(trace.seed, first, slope)
    return SeedGrowth(trace.seed, math.log10(at_end / values[0]), slope, start, at_end)


def _slope(steps: NDArray[np.int64], values: NDArray[np.float64], end: int) -> float | Unknown:
    """Least squares on log-log axes over the last half of training."""
    half = (steps > 0) & (2 * steps >= end)
    if half.sum() < 2:
        return Unknown(f"{half.sum()} point in the last half of training: no slope")
    if values[half].min() <= 0:
        return Unknown("a mean square of 0 has no logarithm")
    x, y = np.log(steps[half]), np.log(values[half])
    x -= x.mean()
    return float(x @ (y - y.mean()) / (x @ x))


def over_seeds(values: Sequence[tuple[int, float | Unknown]]) -> Interval | Unknown:
    """Student's t over seeds; infinite ones make the mean infinite (see the top of this module).

    One seed, or seeds that are all equal, show no spread: there is no interval then.
    """
    known = [value for _, value in values if not isinstance(value, Unknown)]
    if not known:
        reasons = [
            f"seed {seed}: {value.reason}" for seed, value in values if isinstance(value, Unknown)
        ]
        return Unknown("; ".join(reasons) or "no trial")
    if len(known) == 1:
        return Unknown("one seed: no spread over seeds to judge from")
    finite = np.array([value for value in known if value < math.inf])
    n = len(finite)
    middle = float(finite.mean()) if n else math.inf
    error = float(finite.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    spread = error > 1e-12 * max(1.0, abs(middle))
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * error if spread else math.inf
    if n == len(known):
        if not spread:
            return Unknown(f"{n} seeds with equal values: no spread over seeds to judge from")
        return Interval(
            middle, middle - half, middle + half, error, n - 1, LEVEL, n, 0, OTHER_SEEDS
        )
    low = middle - half if n else math.inf
    freedom = max(n - 1, 1)
    return Interval(math.inf, low, math.inf, math.inf, freedom, LEVEL, len(known), 0, OTHER_SEEDS)


def _is_known(value: float | Unknown) -> bool:
    return not isinstance(value, Unknown)


def share_limit(num_diverged: int, n: int) -> float:
    """Clopper and Pearson's lower limit of the share of trainings that diverge."""
    if num_diverged == 0:
        return 0.0
    return float(special.betaincinv(num_diverged, n - num_diverged + 1, (1 - LEVEL) / 2))


def _verdict(slope: Interval | Unknown, num_diverged: int, n: int, margin: float) -> Verdict:
    if isinstance(slope, Unknown):
        return "undecided"
    if slope.low > margin or share_limit(num_diverged, n) > DIVERGED_SHARE:
        return "growing"
    return "bounded" if slope.high < margin else "undecided"


def _sentence(
    seeds: Sequence[SeedGrowth],
    slope: Interval | Unknown,
    verdict: Verdict,
    num_diverged: int,
    n: int,
    margin: float,
) -> str:
    diverged = f"{num_diverged} of {n} {'seeds' if n > 1 else 'seed'} diverged"
    if isinstance(slope, Unknown):
        said = f"{slope.reason}, and {diverged}" if num_diverged else slope.reason
    elif num_diverged:
        said = f"{diverged}, and the slope of the others is {_limits(slope)}"
        if n == num_diverged:
            said = diverged
    else:
        where = {"bounded": "below", "growing": "above", "undecided": "not clear of"}[verdict]
        said = f"the slope is {slope.estimate:.2f} [{slope.low:.2f}, {slope.high:.2f}] over {n} "
        said += f"seeds, {where} the margin of {margin:g}"
    left_out = [f"seed {s.seed} ({s.slope.reason})" for s in seeds if isinstance(s.slope, Unknown)]
    if left_out and n:
        said += f"; left out: {', '.join(left_out)}"
    return f"{verdict}: {said}"


def _limits(slope: Interval) -> str:
    return "not known" if slope.low == -math.inf else f"at least {slope.low:.2f}"
