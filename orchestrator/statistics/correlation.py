"""Growth against size: does log10 growth rise with width, depth or parameters?

Within one backbone, task and norm there are few sizes (3 to 6) and few seeds of each (1 to 5). The
unit is a size: its seeds share a network, so that 4 sizes of 5 seeds are 4 pairs, not 20. Three
numbers say what there is:

*rank*: Spearman's rho over the medians of the sizes. A trial that diverged is infinite and ranks
highest. Its interval is Fisher's z with Bonett and Wright's (2000) standard error
sqrt((1 + rho^2/2) / (n - 3)). If rho is exactly 1 or -1, z does not exist: rho is then moved half
an exchange of neighbouring ranks towards zero, which keeps small n honest. n = 3 has no interval,
and fewer than three sizes or distinct values have no correlation at all.

*p*: the share of all orders of the sizes, each moved as a block with all its seeds, whose |rho| is
at least the one seen (Pitman, 1937). It holds whatever the distribution, infinite values included,
and cannot be small: 2/6 with 3 sizes, 2/24 with 4, 2/120 with 5. Up to 8 sizes every order is
counted; beyond, LARGEST_SAMPLE drawn ones, (b + 1) / (m + 1) as of Phipson and Smyth (2010).

*slope*: b of the mixed model

    log10 growth[size, seed] = a + b log10 measure[size] + u[size] + e[size, seed],

growth ~ measure^b. u is what a size has of its own, such as its number of heads: without it, seeds
would count as sizes. With equally many seeds per size the fit is least squares on the means of the
sizes, exactly, with k - 2 degrees of freedom for k sizes, and so is done here (for balanced data,
this equals REML's where it finds u > 0; see docs/decisions/0020). One seed each is enough. A seed's
own effect on all sizes cancels. There is no slope where a trial diverged.

The verdict is the slope's, rises or falls if its 95 % interval lies on one side of 0, and p's where
there is no slope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from orchestrator.statistics.interval import Interval, Unknown

LEVEL = 0.95
MOST_COUNTED = 8  # sizes whose orders are counted one by one: 8! = 40,320
LARGEST_SAMPLE = 99_999
SAMPLE_SEED = 0
ROUNDING = 1e-12  # rho of two orders that tie differs by less
GENERALISES_TO = "other seeds, and other sizes in this range"

Verdict = Literal["rises", "falls", "undecided"]


@dataclass(frozen=True)
class Rank:
    """Spearman's rho over n pairs and its 95 % interval; `note` says what is missing and why."""

    n: int
    rho: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __str__(self) -> str:
        if self.rho is None:
            return self.note
        interval = (
            f" [{self.low:+.2f}, {self.high:+.2f}]" if self.low is not None else f" ({self.note})"
        )
        return f"\N{GREEK SMALL LETTER RHO} = {self.rho:+.2f}{interval}, n = {self.n}"


@dataclass(frozen=True)
class Size:
    """One network: its width, depth or number of parameters, and the log10 growth of each seed.

    Raises:
        ValueError: there is no seed.
    """

    measure: float
    log10_growths: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.log10_growths:
            raise ValueError(f"size {self.measure:g} has no trial")


@dataclass(frozen=True)
class Trend:
    """What growth does with size. `smallest_p` is that of the most extreme order of these sizes."""

    rank: Rank
    p: float | Unknown
    smallest_p: float | Unknown
    slope: Interval | Unknown
    verdict: Verdict
    sentence: str


def spearman(x: Sequence[float], y: Sequence[float]) -> Rank:
    """Rank correlation of the pairs, with the interval described above.

    inf ranks highest; NaN is not allowed.
    """
    n = len(x)
    if n < 3:
        return Rank(n, note=f"n = {n}: no correlation")
    if len(set(x)) < 3 or len(set(y)) < 2:
        return Rank(
            n, note=f"n = {n} with {min(len(set(x)), len(set(y)))} distinct values: no correlation"
        )
    rho = float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])
    rho = max(-1.0, min(1.0, rho))
    if n < 4:
        return Rank(n, rho, note="n = 3: no interval")
    exchange = 6 / (n * (n * n - 1))  # half of what exchanging two neighbouring ranks takes off 1
    inner = rho if abs(rho) < 1 - exchange else math.copysign(1 - exchange, rho)
    half = float(special.ndtri(0.975)) * math.sqrt((1 + inner**2 / 2) / (n - 3))
    z = math.atanh(inner)
    return Rank(n, rho, min(rho, math.tanh(z - half)), max(rho, math.tanh(z + half)))


def trend(sizes: Sequence[Size]) -> Trend:
    """How growth varies with one measure, from the sizes of one backbone, task and norm."""
    if any(math.isnan(value) for size in sizes for value in size.log10_growths):
        why = Unknown("a growth is not a number: one that diverged counts as infinite")
        return Trend(Rank(len(sizes), note=why.reason), why, why, why, "undecided", why.reason)
    x = [size.measure for size in sizes]
    y = [float(np.median(size.log10_growths)) for size in sizes]
    rank = spearman(x, y)
    if rank.rho is None:
        none = Unknown(rank.note)
        return Trend(rank, none, none, none, "undecided", f"undecided: {rank.note}")
    p, smallest = _permuted(x, y)
    slope = _slope(sizes)
    verdict = _verdict(slope, rank.rho, p)
    return Trend(
        rank, p, smallest, slope, verdict, f"{verdict}: {_because(rank, p, smallest, slope)}"
    )


def _permuted(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """p of |rho| over the orders of y, and the smallest that any order has."""
    first, second = _standardised(x), _standardised(y)
    n = len(first)
    rhos = np.abs(second[_orders(n)] @ first)
    as_extreme = rhos >= abs(float(second @ first)) - ROUNDING
    if n <= MOST_COUNTED:
        return float(as_extreme.mean()), float((rhos >= float(rhos.max()) - ROUNDING).mean())
    smallest = 1 / (LARGEST_SAMPLE + 1)
    return float(as_extreme.sum() + 1) * smallest, smallest


@cache
def _orders(n: int) -> NDArray[np.intp]:
    """All orders of n sizes, one a row, or drawn ones."""
    if n <= MOST_COUNTED:
        return np.array(list(permutations(range(n))))
    dice = np.random.default_rng(SAMPLE_SEED)
    drawn: NDArray[np.intp] = dice.permuted(np.tile(np.arange(n), (LARGEST_SAMPLE, 1)), axis=1)
    return drawn


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing their mean rank."""
    _, of_value, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[of_value]
    return ranks


def _standardised(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks of mean 0 and length 1: the product of two such is Spearman's rho."""
    ranks = _ranks(values)
    ranks -= ranks.mean()
    unit: NDArray[np.float64] = ranks / np.linalg.norm(ranks)
    return unit


def _slope(sizes: Sequence[Size]) -> Interval | Unknown:
    """The mixed model's b, by least squares on the means of the sizes, with k - 2 degrees."""
    values = [value for size in sizes for value in size.log10_growths]
    infinite = sum(not math.isfinite(value) for value in values)
    if infinite:
        return Unknown(f"{infinite} of {len(values)} trials have no finite growth, so no slope")
    if min(size.measure for size in sizes) <= 0:
        return Unknown("a size of 0 has no logarithm")
    x = np.log10([size.measure for size in sizes])
    y = np.array([float(np.mean(size.log10_growths)) for size in sizes])
    x, y = x - x.mean(), y - y.mean()
    freedom = len(sizes) - 2
    slope = float(x @ y / (x @ x))
    error = math.sqrt(float(((y - slope * x) ** 2).sum()) / freedom / float(x @ x))
    if error <= ROUNDING * max(1.0, abs(slope)):
        return Unknown("the sizes lie exactly on a line: no spread to judge from")
    half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
    seeds = min(len(size.log10_growths) for size in sizes)
    return Interval(
        slope, slope - half, slope + half, error, freedom, LEVEL, seeds, 0, GENERALISES_TO
    )


def _verdict(slope: Interval | Unknown, rho: float, p: float) -> Verdict:
    if isinstance(slope, Interval):
        if slope.low <= 0 <= slope.high:
            return "undecided"
        return "rises" if slope.low > 0 else "falls"
    if p > 1 - LEVEL:
        return "undecided"
    return "rises" if rho > 0 else "falls"


def _because(rank: Rank, p: float, smallest: float, slope: Interval | Unknown) -> str:
    if isinstance(slope, Interval):
        return (
            f"growth goes with the power {slope.estimate:.2f} [{slope.low:.2f}, {slope.high:.2f}] "
            f"of the size, over {rank.n} sizes"
        )
    said = f"{slope.reason}; by ranks \N{GREEK SMALL LETTER RHO} = {rank.rho:+.2f}, p = {p:.3f}"
    if smallest > 1 - LEVEL:
        said += f", and no order of {rank.n} sizes has p below {smallest:.3f}"
    return said
