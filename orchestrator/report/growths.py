"""How far the features of each norm have grown since step 0, and what that does with size.

A line is one norm at one size, task and recipe; its trials differ in their seed alone. The curve of
a trial is the mean square of its largest group, and orchestrator.statistics.growth judges it at the
trial's last planned step. orchestrator.statistics.correlation relates growth to parameters, width
and depth, over the networks of one norm that differ in nothing else.

A trial that diverged counts as infinite at every later step. One that has not ended (running,
failed, stopped early, damaged), or was trained otherwise than the others of its line (by another
commit, on other data), is left out, and named.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator.plan.states import State
from orchestrator.report.columns import in_order, numbered
from orchestrator.report.comparable import facts_of
from orchestrator.report.frame import Frame, in_words
from orchestrator.statistics.correlation import Size, Trend, trend
from orchestrator.statistics.growth import Growth, Trace, growth
from orchestrator.statistics.interval import Unknown

TRACE = "feature/mean_square/group_"
Row = Mapping[str, Any]
Apart = dict[str, str]  # by trial
Curve = tuple[NDArray[np.int32], NDArray[np.float64]]  # steps and values


@dataclass(frozen=True)
class NormGrowth:
    """One norm at one size, task and recipe.

    `labels` are the values of all axes but the repetitions, `trials` the ids of every trial of the
    line in the order of `growth.seeds`.
    """

    labels: Mapping[str, Any]
    size: str
    parameters: int
    trials: tuple[str, ...]
    growth: Growth


@dataclass(frozen=True)
class NormTrend:
    """One norm's growth against one measure: parameters, width or depth.

    `labels` are the values of all axes but sizes and repetitions, `trials` the ids of those that
    count. `left_out` says for each other trial why it does not: "w24 d2, seed 1: pending".
    """

    labels: Mapping[str, Any]
    measure: str
    trend: Trend
    trials: tuple[str, ...]
    left_out: tuple[str, ...]


def growths(frame: Frame) -> tuple[NormGrowth, ...]:
    """The growth of every norm, size, task and recipe of the sweep, in file order."""
    traced = _largest(group_traces(frame, "trial", "step", "value"))
    trial, names = numbered(traced["trial"])
    step, value = traced["step"].to_numpy(), traced["value"].to_numpy()
    ends = [0, *(np.flatnonzero(np.diff(trial)) + 1).tolist(), len(trial)]
    curves: dict[str, Curve] = {
        names[trial[first]]: (step[first:end], value[first:end])
        for first, end in pairwise(ends)
        if end > first
    }
    return tuple(_growth_of(frame, labels, rows, curves) for labels, rows in lines_of(frame))


def trends(frame: Frame, known: Sequence[NormGrowth] | None = None) -> tuple[NormTrend, ...]:
    """Each norm's growth against every measure that varies in the sweep, in file order.

    `known`: the growths of the frame, if they have just been computed.
    """
    known = growths(frame) if known is None else known
    varying = measures(frame)
    found = []
    for labels, rows in lines_of(frame, but=("size", "repeat")):
        networks = [line for line in known if labels.items() <= line.labels.items()]
        apart = trained_apart(frame, rows)
        for measure in varying:
            found.append(_trend_of(labels, measure, networks, apart))
    return tuple(found)


def measures(frame: Frame) -> tuple[str, ...]:
    """The measures of size that vary: parameters, and width or depth."""
    sizes = [name for name in frame.sizes if len(_distinct(frame.trials[name])) > 1]
    return ("parameters", *sizes) if sizes else ()


def group_traces(frame: Frame, *columns: str) -> pd.DataFrame:
    """The points that are mean squares of groups, or some of their columns."""
    return frame.metrics(lambda metric: metric.startswith(TRACE), *columns)


def largest_groups(frame: Frame) -> pd.DataFrame:
    """One curve per trial: trial, axes, size, step, and the largest group's mean square as value.

    It is infinite where that of any group is not finite. Steps at which a group has no value are
    left out.
    """
    labels = frame.trials[["trial", *(axis.name for axis in frame.axes), "size"]]
    return labels.merge(_largest(group_traces(frame)), on="trial")


def _largest(traces: pd.DataFrame) -> pd.DataFrame:
    """Trial, step and the largest group's mean square as value, by trial and step."""
    trial, names = numbered(traces["trial"])
    step, num_steps = in_order(traces["step"].to_numpy())
    values = traces["value"].to_numpy(dtype=float)
    value = np.where(np.isfinite(values), values, math.inf)
    moment = trial.astype(np.int64) * num_steps + step
    rows = np.arange(len(moment))
    if (np.diff(moment) < 0).any():  # journals are in order, unless an attempt went back
        rows = np.argsort(moment, kind="stable")
        moment, value = moment[rows], value[rows]
    begins = np.flatnonzero(np.diff(moment, prepend=-1))
    sizes = np.diff(begins, append=len(moment))
    most = np.zeros(len(names), dtype=np.int64)
    of_moment = trial[rows[begins]]
    np.maximum.at(most, of_moment, sizes)
    whole = sizes == most[of_moment]
    largest = np.maximum.reduceat(value, begins) if len(begins) else value
    return traces[["trial", "step"]].take(rows[begins[whole]]).assign(value=largest[whole])


def trained_apart(frame: Frame, rows: Sequence[Row]) -> Apart:
    """The ended trials that were trained otherwise than most of these, and a phrase for each.

    That is by another commit, on other data, or with another recipe; the network may differ in
    size. Of two ways with equally many trials, the one that comes first counts.
    """
    ways = {
        row["trial"]: {
            name: value
            for name, value in facts_of(frame, row["trial"]).items()
            if not name.startswith("model.")
        }
        for row in rows
        if State(row["state"]).has_ended and row["trial"] in frame.looks
    }
    if not ways:
        return {}
    ((usual, _),) = Counter(tuple(way.items()) for way in ways.values()).most_common(1)
    return {
        trial: "; ".join(unlike)
        for trial, way in ways.items()
        if (unlike := _unlike(way, dict(usual)))
    }


def _unlike(own: Mapping[str, str], usual: Mapping[str, str]) -> list[str]:
    """`commit aa, bb for the others`, for each fact that differs."""
    names = dict.fromkeys((*own, *usual))
    return [
        f"{name} {own.get(name, 'none')}, {usual.get(name, 'none')} for the others"
        for name in names
        if own.get(name) != usual.get(name)
    ]


def _growth_of(
    frame: Frame, labels: Row, rows: Sequence[Row], curves: Mapping[str, Curve]
) -> NormGrowth:
    apart = trained_apart(frame, rows)
    traces = [_trace(row, curves.get(row["trial"]), apart.get(row["trial"], "")) for row in rows]
    return NormGrowth(
        labels,
        str(rows[0]["size"]),
        int(rows[0]["parameters"]),
        tuple(row["trial"] for row in rows),
        growth(traces, int(rows[0]["steps"])),
    )


def _trace(row: Row, curve: Curve | None, apart: str) -> Trace:
    state, seed = State(row["state"]), int(row["seed"])
    if not state.has_ended or apart:
        return Trace(seed, (), ((),), missing=apart if state.has_ended else in_words(row))
    steps, values = curve or (np.empty(0, np.int32), np.empty(0))
    if state == State.DIVERGED:
        return Trace(seed, steps, (values,), diverged_at=int(row["step"]))
    return Trace(
        seed, steps, (values,), missing="" if len(steps) else "it recorded no feature traces"
    )


def _trend_of(
    labels: Row, measure: str, networks: Sequence[NormGrowth], apart: Mapping[str, str]
) -> NormTrend:
    sizes, trials, left_out = [], [], []
    for network in networks:
        at = network.parameters if measure == "parameters" else network.labels[measure]
        found = []
        for trial, seed in zip(network.trials, network.growth.seeds, strict=True):
            value = math.inf if seed.diverged else seed.log10_growth
            if trial in apart or at is None:
                value = Unknown(apart.get(trial, f"no {measure} is given"))
            if isinstance(value, Unknown):
                left_out.append(f"{network.size}, seed {seed.seed}: {value.reason}")
            else:
                found.append(value)
                trials.append(trial)
        if found:
            sizes.append(Size(float(at), tuple(found)))
    return NormTrend(labels, measure, trend(sizes), tuple(trials), tuple(left_out))


def lines_of(frame: Frame, but: Sequence[str] = ("repeat",)) -> list[tuple[Row, list[Row]]]:
    """The trials with equal values of all axes but those of some roles, in file order."""
    names = [axis.name for axis in frame.axes if axis.role not in but]
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in frame.rows:
        lines.setdefault(tuple(_known(row[name]) for name in names), []).append(row)
    return [(dict(zip(names, values, strict=True)), rows) for values, rows in lines.items()]


def _known(value: Any) -> Any:
    """A label as the plan has it: pandas makes NaN of a missing number."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _distinct(values: pd.Series) -> set[Any]:
    return {_known(value) for value in values}
