"""Power: the smallest difference that data like these would show, and the seeds that would show it.

All for a two-sided t test at alpha of a difference between two norms. The variances are taken as
known, though a few seeds estimated them; the degrees of freedom of the future test are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from scipy import special

from orchestrator.statistics.crossed import parts_of
from orchestrator.statistics.interval import Interval, Part, Unknown
from orchestrator.statistics.paired import t_interval

# Where exp(-shift^2 / 2) underflows, at 39, scipy's noncentral t is NaN for some degrees of freedom
# (seen in 1.17.1).
LARGE_SHIFT = 30.0
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


def power_of(
    difference: float, standard_error: float, degrees_of_freedom: float, alpha: float = 0.05
) -> float:
    """The chance that a true `difference` is found, with the right sign.

    P(T' > t(1 - alpha/2)) for the noncentral t with noncentrality |difference| / standard_error
    (Johnson, Kotz and Balakrishnan 1995, Continuous Univariate Distributions 2, ch. 31).
    """
    critical = float(special.stdtrit(degrees_of_freedom, 1 - alpha / 2))
    shift = abs(difference) / standard_error
    if math.isinf(degrees_of_freedom):
        return float(special.ndtr(shift - special.ndtri(1 - alpha / 2)))
    if shift > LARGE_SHIFT:
        return _power_of_large(shift, degrees_of_freedom, critical)
    return 1 - float(special.nctdtr(degrees_of_freedom, shift, critical))


def _power_of_large(shift: float, degrees_of_freedom: float, critical: float) -> float:
    """P(T' > critical) as the mean over Z of P(chi^2 < degrees ((Z + shift) / critical)^2).

    T' is (Z + shift) / sqrt(chi^2 / degrees) with Z normal; Gauss-Hermite takes the mean.
    """
    below = degrees_of_freedom * ((NODES + shift) / critical) ** 2
    return float(WEIGHTS @ special.chdtr(degrees_of_freedom, below) / WEIGHTS.sum())


def smallest_detectable(
    difference: Interval | Unknown, *, power: float = 0.8, alpha: float = 0.05
) -> float | Unknown:
    """The true difference found with this power, at the interval's error and degrees of freedom.

    In the unit of the data. It says what the data could have shown, not what they did.
    """
    if isinstance(difference, Unknown):
        return difference
    if difference.standard_error == 0:
        return Unknown("the standard error is zero")
    degrees = difference.degrees_of_freedom
    return difference.standard_error * _noncentrality(degrees, power, alpha)


@dataclass(frozen=True)
class Spread:
    """How much a difference varies, and how the future test will estimate it.

    `seeds` is the variance of the per-seed mean difference (paired.seed_variance) in squared
    units. For "other seeds and other images", `images` is the part of the images in the variance
    of the mean, (MS_images - MS_rest) / (S I), which more seeds do not reduce, with
    `image_degrees`, the number of images minus one. For "these images", leave it at 0.
    `prior_degrees` is what moderation will add.
    """

    seeds: float
    images: float = 0.0
    image_degrees: float = 1.0
    prior_degrees: float = 0.0


def seeds_needed(
    difference: float, spread: Spread, *, power: float = 0.8, alpha: float = 0.05, most: int = 1000
) -> int | Unknown:
    """The fewest seeds, at least two, that find a true `difference` with this power.

    Raises:
        ValueError: the difference is zero or not finite, or a variance is negative or not finite.
    """
    if not 0 < abs(difference) < math.inf:
        raise ValueError(f"a difference of {difference}: no number of seeds shows it")
    if not (0 <= spread.seeds < math.inf and 0 <= spread.images < math.inf):
        raise ValueError(f"{spread}: variances are finite and not negative")
    if spread.seeds == 0:
        return Unknown("the seeds' variance is zero: it cannot be judged how many are needed")

    def found(seeds: int) -> bool:
        expected = _expected(spread, seeds, 1 - alpha)
        error, degrees = expected.standard_error, expected.degrees_of_freedom
        return power_of(difference, error, degrees, alpha) >= power

    if not found(most):
        error = math.sqrt(spread.images + spread.seeds / most)
        return Unknown(
            f"{most} seeds would not do: a standard error of {error:.3g} is left"
            + (", most of it from the images" if 2 * spread.images > error**2 else "")
        )
    low, high = 1, most  # found(high), and not found(low): more seeds never have less power
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def _expected(spread: Spread, seeds: int, level: float) -> Interval:
    """The interval around zero that so many seeds would give, if they vary as expected."""
    of_seeds = Part(spread.seeds / seeds, seeds - 1 + spread.prior_degrees)
    parts: tuple[Part, ...] = (of_seeds,)
    if spread.images:
        parts = parts_of(of_seeds, Part(spread.images, spread.image_degrees), Part(0.0, 1.0))
    found = t_interval(0.0, parts, level, (seeds, 0), "")
    if isinstance(found, Unknown):
        raise ValueError(f"{spread}: {found.reason}")
    return found


@lru_cache(maxsize=1000)  # a report asks about the same degrees of freedom again and again
def _noncentrality(degrees_of_freedom: float, power: float, alpha: float) -> float:
    """|difference| / standard error of a test with this power."""
    critical = float(special.stdtrit(degrees_of_freedom, 1 - alpha / 2))
    high = 2 * (critical + 10)
    while power_of(high, 1.0, degrees_of_freedom, alpha) < power:
        high *= 2
    return float(
        scipy.optimize.brentq(
            lambda shift: power_of(shift, 1.0, degrees_of_freedom, alpha) - power, 0.0, high
        )
    )
