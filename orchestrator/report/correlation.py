"""Divergence against size: how the largest features vary with parameters, width and depth.

They are compared at a fixed step, by their mean square. Paper/protocol section 2 (Fig. 10): max
over groups of the trace, log10, Spearman's rank correlation with an interval.

The unit is a size: the median over the seeds of one size is taken first, so that n counts networks,
not repetitions. The step is the last one at which every completed trial of a backbone and task has
a trace. A trial that has diverged by then, or whose value is not finite, counts as infinite: it
ranks highest. The correlation and its interval are those of orchestrator.statistics.correlation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.plan.states import State
from orchestrator.report.frame import Frame, keyed, parts
from orchestrator.statistics.correlation import Rank, spearman

TRACE = "feature/mean_square/group_"


@dataclass(frozen=True)
class Correlation:
    """One line of correlation.csv.

    `growth` is the mean square at the largest size divided by that at the smallest. `labels` says
    which networks are meant: the value of every axis that is neither a size nor a repetition.
    """

    labels: Mapping[str, Any]
    measure: str
    step: int
    smallest: float
    largest: float
    growth: float
    rank: Rank


def max_over_groups(frame: Frame) -> pd.DataFrame:
    """The traces, one curve per trial: trial, axes, size, step and the largest group's value.

    The value is NaN if any group's is.
    """
    traces = frame.points[frame.points["metric"].str.startswith(TRACE)]
    keys = ["trial", *(axis.name for axis in frame.axes), "size", "step"]
    groups = traces.groupby(keys, sort=False, dropna=False)["value"]
    return groups.max().where(groups.count() == groups.size()).reset_index()


def divergence(frame: Frame) -> pd.DataFrame:
    """One row per trial with a trace at the fixed step of its backbone, task and recipe.

    The columns are axes, parameters, step, value and log10. Trials still under way are left out as
    soon as any trial of their backbone, task and recipe has ended.
    """
    traces = max_over_groups(frame).merge(
        frame.trials[["trial", "parameters", "state"]], on="trial"
    )
    chosen = [
        _at_fixed_step(group) for _, group in parts(traces, *frame.tables_by, *frame.panels_by)
    ]
    rows = pd.concat(chosen, ignore_index=True) if chosen else traces
    rows["log10"] = [math.log10(value) if value > 0 else -math.inf for value in rows["value"]]
    return rows


def _at_fixed_step(traces: pd.DataFrame) -> pd.DataFrame:
    """The rows at the last step at which all deciding trials have a trace.

    Completed and stopped trials decide; if there are none, diverged ones; failing those, all.
    """
    for states in ((State.DONE, State.STOPPED), (State.DIVERGED,), tuple(set(traces["state"]))):
        deciding = traces[traces["state"].isin(states)]
        if not deciding.empty:
            break
    steps = set.intersection(*(set(part["step"]) for _, part in parts(deciding, "trial")))
    if not steps:
        return traces.iloc[:0]
    step = max(steps)
    there = traces[
        (traces["step"] == step) & traces["state"].isin({*deciding["state"], State.DIVERGED})
    ]
    gone = traces[
        (traces["state"] == State.DIVERGED) & ~traces["trial"].isin(there["trial"])
    ].drop_duplicates("trial")
    rows: pd.DataFrame = pd.concat(
        [there, gone.assign(step=step, value=math.inf)], ignore_index=True
    )
    rows["value"] = rows["value"].fillna(math.inf)
    return rows


def measures(frame: Frame, rows: pd.DataFrame) -> list[str]:
    """Those of parameters, width and depth that vary."""
    return [name for name in ("parameters", *frame.sizes) if rows[name].nunique() > 1]


def by_size(frame: Frame, rows: pd.DataFrame) -> pd.DataFrame:
    """The median over the seeds of one size, whose networks differ in nothing else."""
    keys = [*_apart(frame), "size", *frame.sizes, "parameters", "step"]
    medians: pd.DataFrame = (
        rows.groupby(keys, sort=False, dropna=False)["log10"].median().reset_index()
    )
    return medians


def correlations(frame: Frame, rows: pd.DataFrame) -> tuple[Correlation, ...]:
    """From the rows of `divergence`, a correlation with each measure that varies.

    Each is over networks that differ in size alone.
    """
    found = []
    shown = measures(frame, rows)
    for _, part in parts(by_size(frame, rows), *frame.tables_by, *frame.panels_by):
        for measure in shown:
            for labels, group in keyed(part.dropna(subset=[measure]), *_apart(frame)):
                ends = group.groupby(measure)["log10"].median()
                growth = (
                    10 ** (float(ends.iloc[-1]) - float(ends.iloc[0]))
                    if np.isfinite(ends).all()
                    else math.nan
                )
                rank = spearman(group[measure].tolist(), group["log10"].tolist())
                step, low, high = (
                    int(group["step"].iloc[0]),
                    float(ends.index[0]),
                    float(ends.index[-1]),
                )
                found.append(Correlation(labels, measure, step, low, high, growth, rank))
    return tuple(found)


def _apart(frame: Frame) -> list[str]:
    """The axes that are neither a size nor a repetition."""
    return [
        *frame.tables_by,
        *(name for name in frame.panels_by if name not in frame.rows_by),
        *frame.rows_by,
    ]


def as_frame(frame: Frame, found: tuple[Correlation, ...]) -> pd.DataFrame:
    """The correlations as correlation.csv has them."""
    columns = [
        *_apart(frame),
        "measure",
        "step",
        "smallest",
        "largest",
        "growth",
        "n",
        "rho",
        "low",
        "high",
        "note",
    ]
    flat = [{**line.labels, **asdict(line), **asdict(line.rank)} for line in found]
    return pd.DataFrame(flat, columns=columns)
