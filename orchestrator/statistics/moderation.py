"""Moderated variances: what a few seeds cannot say about their variance, other cells can.

Smyth (2004), "Linear models and empirical Bayes methods for assessing differential expression",
Stat. Appl. Genet. Mol. Biol. 3(1):3. The variance of cell g, s_g^2 with d_g degrees of freedom,
varies around a true one that differs from cell to cell:

    s_g^2 | sigma_g^2 ~ sigma_g^2 chi^2(d_g) / d_g        1 / sigma_g^2 ~ chi^2(d_0) / (d_0 s_0^2)

The posterior variance of a cell is (d_0 s_0^2 + d_g s_g^2) / (d_0 + d_g), and t has d_0 + d_g
degrees of freedom. `fitted` estimates s_0^2 and d_0 as Smyth does in section 6.2.

With a few dozen cells instead of Smyth's thousands of genes, d_0 is poorly known, and is estimated
as infinite in half of all cases where variances do differ. Then t would have far too many degrees
of freedom, and with seeds whose noise has heavy tails, families of true nulls would be rejected at
twice the rate they should. So the prior counts for at most MOST_DEGREES degrees of freedom, and for
at most half of those it was estimated from. benchmarks/calibration.py shows the rates, and
docs/decisions/0019 the choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray
from scipy import special

from orchestrator.statistics.interval import Unknown

MOST_DEGREES = 6.0
SMALLEST_SHARE = 1e-5  # of the median: a variance of exactly zero has no logarithm


@dataclass(frozen=True)
class Prior:
    """What a pool of cells says about the variance of one more.

    `variance` is s_0^2 (in the square of the data's unit). `degrees_of_freedom` is the d_0 that
    counts, `estimated_degrees` is Smyth's estimate of it, which may be math.inf, and
    `pooled_degrees` is the sum over the pool. `n_cells` is the size of the pool.
    """

    variance: float
    degrees_of_freedom: float
    estimated_degrees: float
    pooled_degrees: float
    n_cells: int


@dataclass(frozen=True)
class Moderated:
    """A posterior variance, and the degrees of freedom of a t that uses it."""

    variance: float
    degrees_of_freedom: float


def prior_from(variances: Sequence[float], degrees_of_freedom: Sequence[float]) -> Prior | Unknown:
    """The prior that a pool of cells gives for one that is not in the pool.

    `variances` are those of the per-seed means of each cell's differences, at the same number of
    images, and `degrees_of_freedom` the number of seeds minus one for each.

    Raises:
        ValueError: there are not as many degrees of freedom as variances, or some are not positive.
    """
    values = np.asarray(variances, dtype=float)
    degrees = np.asarray(degrees_of_freedom, dtype=float)
    if values.ndim != 1 or values.shape != degrees.shape or not np.all(degrees > 0):
        raise ValueError("each variance of a pool needs its positive degrees of freedom")
    if values.size < 2:
        return Unknown(f"{values.size} other cells to pool from: at least two are needed")
    strange = int(np.sum(~np.isfinite(values) | (values < 0)))
    if strange:
        return Unknown(f"{strange} of {values.size} variances to pool are not finite")
    if np.median(values) == 0:
        return Unknown(f"most of the {values.size} variances to pool are zero")
    variance, estimated = fitted(values, degrees)
    pooled = float(degrees.sum())
    counts = min(estimated, MOST_DEGREES, pooled / 2)
    return Prior(variance, counts, estimated, pooled, values.size)


def fitted(
    variances: NDArray[np.float64], degrees_of_freedom: NDArray[np.float64]
) -> tuple[float, float]:
    """s_0^2 and d_0 of n cells, from the mean and variance of log s^2 (Smyth 2004, section 6.2).

    With e = log s^2 - digamma(d/2) + log(d/2), its mean m and its sample variance v:

        trigamma(d_0/2) = v - mean trigamma(d/2)
        s_0^2           = exp(m + digamma(d_0/2) - log(d_0/2))

    If the right side of the first is not positive, the variances differ by no more than chance:
    d_0 is infinite and s_0^2 is their mean, as in limma since 2017. Variances below SMALLEST_SHARE
    of the median count as that much.
    """
    values = np.maximum(variances, SMALLEST_SHARE * np.median(variances))
    half = degrees_of_freedom / 2
    e = np.log(values) - special.digamma(half) + np.log(half)
    excess = float(np.var(e, ddof=1) - np.mean(_trigamma(half)))
    if excess <= 0:
        return float(np.mean(values)), math.inf
    half_prior = _trigamma_inverse(excess)
    log_variance = np.mean(e) + special.digamma(half_prior) - math.log(half_prior)
    return float(np.exp(log_variance)), 2 * half_prior


def _trigamma(y: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(special.zeta(2.0, y))  # Hurwitz's; polygamma(1, y) is the same, only slower


def _trigamma_inverse(value: float) -> float:
    """y > 0 with trigamma(y) = value > 0; 1/y < trigamma(y) < 1/y + 1/y^2 brackets it."""
    low = 1 / value
    high = (1 + math.sqrt(1 + 4 * value)) / (2 * value)
    if high - low <= 1e-9 * low:
        return low
    return float(
        scipy.optimize.brentq(lambda y: float(_trigamma(y)) - value, low, high, xtol=1e-12)
    )


def moderated(variance: float, degrees_of_freedom: float, prior: Prior) -> Moderated:
    """The posterior variance and degrees of freedom of a cell outside the pool.

    `degrees_of_freedom` is 0, and `variance` does not matter, if the cell has one seed.
    """
    total = prior.degrees_of_freedom + degrees_of_freedom
    own = degrees_of_freedom * variance if degrees_of_freedom else 0.0
    return Moderated((prior.degrees_of_freedom * prior.variance + own) / total, total)
