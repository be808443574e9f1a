"""Fewer steps of long curves, for figures and traces.csv; nothing is computed from what is left.

Steps are left out, never averaged, and the same steps of all trials, so that an average over trials
at a step that is kept is what it would be. The first and the last step are kept, and of a trial
that diverged the last finite value of every metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

POINTS_DRAWN = 100_000  # of one metric, over all trials: a curve needs no more than its pixels
FEWEST_STEPS, MOST_STEPS = 100, 1_000
MOST_ROWS = 500_000  # of traces.csv; spreadsheets open no more than twice as many


def for_figures(points: pd.DataFrame, num_trials: int, diverged: Sequence[str]) -> pd.DataFrame:
    """The points that figures draw: 100 to 1,000 steps of a curve, fewer if trials are many."""
    most = max(FEWEST_STEPS, min(MOST_STEPS, POINTS_DRAWN // max(num_trials, 1)))
    return thinned(points, lambda steps: most, diverged)


def for_file(points: pd.DataFrame, diverged: Sequence[str], share: float) -> pd.DataFrame:
    """About this share of the points, or all of them."""
    if share >= 1:
        return points
    return thinned(points, lambda steps: max(2, round(steps * share)), diverged)


def thinned(
    points: pd.DataFrame, most: Callable[[int], int], diverged: Sequence[str]
) -> pd.DataFrame:
    """The points at evenly spaced steps.

    `most`: how many steps to keep of a number of steps. Metrics with the same first part of their
    name, such as `feature/`, are measured together and keep the same steps.
    """
    step, steps = pd.factorize(points["step"].to_numpy(), sort=True)
    metric, names = pd.factorize(points["metric"])
    first_parts = [str(name).split("/")[0] for name in names]
    family = np.unique(first_parts, return_inverse=True)[1].astype(np.int32)[metric]
    there = np.zeros((family.max(initial=-1) + 1, len(steps)), dtype=bool)
    there[family, step] = True
    kept = there.copy()
    for measured, chosen in zip(there, kept, strict=True):
        at = np.flatnonzero(measured)
        if len(at) > most(len(at)):
            evenly = np.linspace(0, len(at) - 1, most(len(at))).round().astype(int)
            chosen[:] = False
            chosen[at[evenly]] = True
    if (kept == there).all():
        return points
    keeps = kept[family, step] | _last_finite(points, step, len(steps), diverged)
    return points[keeps]


def _last_finite(
    points: pd.DataFrame, step: NDArray[np.intp], num_steps: int, diverged: Sequence[str]
) -> NDArray[np.bool_]:
    """Whether a point is at a step where a metric of its trial has its last finite value."""
    of_diverged = points["trial"].isin(diverged).to_numpy()
    keeps = np.zeros(len(points), dtype=bool)
    rows = np.flatnonzero(of_diverged)
    if not len(rows):
        return keeps
    part = points.iloc[rows]
    value, (trial, _) = part["value"].to_numpy(), pd.factorize(part["trial"])
    metric, _ = pd.factorize(part["metric"])
    moment = trial.astype(np.int64) * num_steps + step[rows]
    finite = np.isfinite(value) & (value > 0)  # both axes may be logarithmic
    curve = (trial.astype(np.int64) * (metric.max() + 1) + metric)[finite]
    last = pd.Series(moment[finite]).groupby(curve).max().to_numpy()
    keeps[rows] = np.isin(moment, last)
    return keeps
