"""Looking again and again: the error that each look may spend, and the test for a lasting drop.

A test at 5 % every night raises a false alarm in most half-years. So each look has a share of the
error rate, and the shares add up to it (alpha spending: Lan & DeMets 1983, Biometrika 70:659). By
the union bound this holds however the looks depend on each other, which matters here: a baseline
that is not trained again is the same in all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from orchestrator.statistics.paired import constant

WINDOWS = (1, 3, 9, 27, 81)


@dataclass(frozen=True)
class Drop:
    """The p-value of a drop, and the window it was seen in: the last so many looks together."""

    p_value: float
    window: int


def share(look: int, error_rate: float, looks: int) -> float:
    """What the look of this number (from 1) may spend of an error rate that is kept over `looks`.

        error_rate (1/2 * 6 / (pi^2 look^2) + 1/2 / looks)

    The squares add up to pi^2 / 6, so any `looks` looks in a row spend at most error_rate. The
    first looks have the most, since a new gate has no history; all have at least half of an even
    share.

    Raises:
        ValueError: a number is out of range.
    """
    if look < 1 or looks < 1 or not 0 < error_rate < 1:
        raise ValueError(f"look {look} of {looks}, error rate {error_rate}: out of range")
    return error_rate * (3 / (math.pi * look) ** 2 + 1 / (2 * looks))


def drop(looks: ArrayLike, limit: float) -> Drop:
    """Whether the mean is surely below `limit`, from (K, S) values: looks, oldest first, by seeds.

    The last 1, 3, 9, 27 and 81 looks, as far as there are so many, are each averaged seed by seed,
    and the S means give a one-sided t with S - 1 degrees of freedom. Bonferroni takes the smallest
    p over the windows. A lasting drop shows in the short ones, slow decay in the long ones.

    Only seeds have to be independent of each other. Looks need not be: the same baseline, or a
    change that barely changes the numbers, makes them alike, and the means of the seeds then differ
    as much as those of one look do (docs/decisions/0023). A window whose seeds have equal means
    is no evidence.

    Raises:
        ValueError: not a table of finite numbers with at least one look and two seeds.
    """
    table = np.asarray(looks, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] < 2:
        raise ValueError(f"looks of shape {table.shape}: rows are looks, columns two or more seeds")
    if not np.isfinite(table).all():
        raise ValueError("looks whose values are not all finite")
    found = {window: _below(table[-window:], limit) for window in windows(len(table))}
    window = min(found, key=lambda one: found[one])
    return Drop(min(1.0, len(found) * found[window]), window)


def windows(looks: int) -> tuple[int, ...]:
    """The windows that so many looks fill."""
    return tuple(window for window in WINDOWS if window <= looks)


def _below(table: np.ndarray[tuple[int, int], np.dtype[np.float64]], limit: float) -> float:
    """P(T < t) for the seeds' means of one window."""
    means = table.mean(axis=0)
    if constant(means):
        return 1.0
    error = float(means.std(ddof=1)) / math.sqrt(means.size)
    return float(special.stdtr(means.size - 1, (float(means.mean()) - limit) / error))
