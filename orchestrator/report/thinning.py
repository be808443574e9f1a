"""Fewer steps of long curves, for figures and traces.csv; nothing is computed from what is left.

Steps are left out, never averaged, and the same steps of all trials, so that an average over trials
at a step that is kept is what it would be. The first and the last step are kept, and of a trial
that diverged the last finite value of every metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator.report.columns import in_order, numbered
from orchestrator.report.growths import TRACE

ENTROPY, LOSS = "feature/entropy_normalised", "train/loss"
POINTS_DRAWN = 100_000  # of one metric, over all trials: a curve needs no more than its pixels
FEWEST_STEPS, MOST_STEPS = 100, 1_000
AT_ONCE = 100_000
MOST_ROWS = 250_000  # of traces.csv; spreadsheets open up to a million


def is_drawn(metric: str) -> bool:
    """Whether a figure may show this metric's points."""
    of_a_set = metric.startswith("val/") and metric.endswith("/psnr")
    return of_a_set or metric in (ENTROPY, LOSS) or metric.startswith(TRACE)


def for_figures(points: pd.DataFrame, num_trials: int, diverged: Sequence[str]) -> pd.DataFrame:
    """The points that figures draw: 100 to 1,000 steps of a curve, fewer if trials are many."""
    most = max(FEWEST_STEPS, min(MOST_STEPS, POINTS_DRAWN // max(num_trials, 1)))
    return thinned(points, lambda steps: most, diverged, is_drawn)


def for_file(
    points: pd.DataFrame,
    diverged: Sequence[str],
    share: float,
    written: Callable[[str], bool] = lambda metric: True,
) -> pd.DataFrame:
    """About this share of the points, or all of them, of the metrics to be written."""

    def most(steps: int) -> int:
        return steps if share >= 1 else max(2, round(steps * share))

    return thinned(points, most, diverged, written)


def thinned(
    points: pd.DataFrame,
    most: Callable[[int], int],
    diverged: Sequence[str],
    wanted: Callable[[str], bool] = lambda metric: True,
) -> pd.DataFrame:
    """The points of the metrics that are wanted, at evenly spaced steps.

    `most`: how many steps to keep of a number of steps. Metrics with the same first part of their
    name, such as `feature/`, are measured together and keep the same steps, wanted or not.
    """
    metric, names = numbered(points["metric"])
    if not len(points):
        return points
    step, num_steps = in_order(points["step"].to_numpy())
    first = _first_of_family(names, num_steps)
    there = np.zeros((len(set(first)), num_steps), dtype=bool)
    for some in _slices(len(points)):
        there.ravel()[first[metric[some]] + step[some]] = True
    kept = there.copy()
    for measured, chosen in zip(there, kept, strict=True):
        at = np.flatnonzero(measured)
        if len(at) > most(len(at)):
            evenly = np.linspace(0, len(at) - 1, most(len(at))).round().astype(int)
            chosen[:] = False
            chosen[at[evenly]] = True
    among = np.array([wanted(name) for name in names], dtype=bool)
    if among.all() and (kept == there).all():
        return points
    keeps = np.empty(len(points), dtype=bool)
    for some in _slices(len(points)):
        keeps[some] = kept.ravel()[first[metric[some]] + step[some]]
    if not (kept == there).all():
        keeps |= _last_finite(points, metric, step, diverged)
    if not among.all():
        keeps &= among[metric]
    return points.take(np.flatnonzero(keeps))


def _first_of_family(names: Sequence[str], num_steps: int) -> NDArray[np.int64]:
    """Where the steps of each metric's family begin in an array of (families, steps)."""
    first_parts = [name.split("/")[0] for name in names]
    _, family = np.unique(np.array(first_parts, dtype=str), return_inverse=True)
    first: NDArray[np.int64] = family.astype(np.int64) * num_steps
    return first


def _slices(count: int) -> Iterator[slice]:
    """Slices of millions of points, small enough for the cache of a core."""
    return (slice(begin, begin + AT_ONCE) for begin in range(0, count, AT_ONCE))


def _last_finite(
    points: pd.DataFrame,
    metric: NDArray[Any],
    step: NDArray[Any],
    diverged: Sequence[str],
) -> NDArray[np.bool_]:
    """Whether a point is at a step where a metric of its trial has its last finite value."""
    trial, names = numbered(points["trial"])
    keeps = np.zeros(len(points), dtype=bool)
    rows = np.flatnonzero(np.isin(names, diverged)[trial])
    if not len(rows):
        return keeps
    value, step = points["value"].to_numpy()[rows], step[rows]
    num_steps, num_metrics = int(step.max()) + 1, int(metric.max()) + 1
    moment = trial[rows].astype(np.int64) * num_steps + step
    finite = np.isfinite(value) & (value > 0)  # both axes may be logarithmic
    curve = (trial[rows].astype(np.int64) * num_metrics + metric[rows])[finite]
    last = np.full(len(names) * num_metrics, -1)
    np.maximum.at(last, curve, moment[finite])
    keeps[rows] = np.isin(moment, last)
    return keeps
