"""Several sweeps, or one at several dates, as one frame in which the sweep is one more label.

Every table and figure then has them side by side, as it has the values of a recipe: only seeds are
averaged, and norms are compared within a sweep. orchestrator.report.drops compares a norm of one
sweep with the same norm of another.

An axis that only some of the sweeps have gets, for the others, the value that their trials were
given. A trial that several sweeps share is there once for each, under ids of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import union_categoricals

from orchestrator.plan.axes import SWEEP, Axis, axes_named
from orchestrator.plan.expand import Plan, Trial
from orchestrator.plan.source import Source
from orchestrator.report.frame import Frame
from orchestrator.report.inputs import SetInputs
from trainers.spec import RunSpec


@dataclass(frozen=True)
class One:
    """One of the sweeps, and what its store holds of it. Labels of several differ."""

    label: str
    plan: Plan
    frame: Frame


def labels_of(plans: Sequence[Plan], stores: Sequence[str]) -> tuple[str, ...]:
    """The sweeps' names; those of equal names with their stores, or else their files."""
    names = [plan.sweep for plan in plans]
    if len(set(names)) == len(names):
        return tuple(names)
    apart = stores if len(set(stores)) == len(stores) else [str(plan.path) for plan in plans]
    return tuple(f"{name} in {where}" for name, where in zip(names, apart, strict=True))


def place_of(labels: Sequence[str]) -> str:
    """Where a store keeps the report on sweeps with these labels."""
    return "/".join(["compared", *(re.sub(r"[^a-z0-9]+", "-", one.lower()) for one in labels)])


def joined(sweeps: Sequence[One]) -> tuple[Plan, Frame]:
    """The plan and the frame of all these sweeps."""
    axes = axes_named([SWEEP.name, *(axis.name for sweep in sweeps for axis in sweep.plan.axes)])
    parts: list[One] = []
    taken: set[str] = set()
    for sweep in sweeps:
        parts.append(_labelled(sweep, axes, taken))
        taken |= {trial.id for trial in parts[-1].plan.trials}
    return _plan(parts), _frame(parts, axes)


def _labelled(sweep: One, axes: Sequence[Axis], taken: set[str]) -> One:
    """A sweep whose trials have labels for all axes, and ids that are not `taken`."""
    ids = {
        trial.id: f"{trial.id} of {sweep.label}" if trial.id in taken else trial.id
        for trial in sweep.plan.trials
    }
    trials = tuple(
        replace(trial, id=ids[trial.id], axes=_labels(trial, axes, sweep.label))
        for trial in sweep.plan.trials
    )
    frame, by_id = sweep.frame, {trial.id: trial for trial in trials}
    rows = [
        {**row, "trial": of.id, "name": of.name, **of.axes}
        for row in frame.rows
        for of in [by_id[ids[row["trial"]]]]
    ]
    added = [axis.name for axis in axes if axis not in sweep.plan.axes]
    labels = {trial.id: trial.axes for trial in trials}
    frame = replace(
        frame,
        trials=pd.DataFrame(rows),
        points=_renamed(frame.points, ids, (), labels),
        images=_renamed(frame.images, ids, added, labels),
        recorded={ids[trial]: specs for trial, specs in frame.recorded.items()},
        looks={ids[trial]: look for trial, look in frame.looks.items()},
    )
    return replace(sweep, plan=replace(sweep.plan, trials=trials), frame=frame)


def _labels(trial: Trial, axes: Sequence[Axis], sweep: str) -> dict[str, Any]:
    given = {**trial.axes, SWEEP.name: sweep}
    return {
        axis.name: given[axis.name] if axis.name in given else _value(axis, trial.spec)
        for axis in axes
    }


def _value(axis: Axis, spec: RunSpec) -> Any:
    """The label of an axis that a trial's sweep does not have."""
    if (field := axis.field_of("training")) is not None:
        return axis.label_of(getattr(spec.training, field))
    field = axis.field_of("backbone")
    return axis.label_of(spec.model.backbone.knobs.get(field)) if field is not None else None


def _renamed(
    rows: pd.DataFrame,
    ids: Mapping[str, str],
    added: Sequence[str],
    labels: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    if not len(rows):
        return rows
    names, codes = pd.factorize(rows["trial"])[::-1]
    trials = [ids[str(name)] for name in names]
    columns = {"trial": trials, **{name: [labels[t][name] for t in trials] for name in added}}
    return rows.assign(
        **{
            name: pd.Categorical.from_codes(*_coded(values, codes))
            for name, values in columns.items()
        }
    )


def _coded(values: Sequence[Any], codes: Any) -> tuple[Any, pd.Index]:
    """A category for each value, and those of rows whose trials have the numbers `codes`."""
    of_value, distinct = pd.factorize(pd.Series(values, dtype=object))
    return of_value[codes], pd.Index(distinct)


def _plan(parts: Sequence[One]) -> Plan:
    first = parts[0].plan
    questions = dict.fromkeys(part.plan.question for part in parts if part.plan.question)
    files = dict.fromkeys(part.plan.path.name for part in parts)
    source = Source(Path(", ".join(files)), [f"# {' '.join(questions)}"], {}, {}, {})
    return replace(
        first,
        sweep=", ".join(part.label for part in parts),
        source=source,
        trials=tuple(trial for part in parts for trial in part.plan.trials),
        excluded=tuple(point for part in parts for point in part.plan.excluded),
        folded=tuple(point for part in parts for point in part.plan.folded),
        claims=None,
        gate=None,
    )


def _frame(parts: Sequence[One], axes: tuple[Axis, ...]) -> Frame:
    frames = [part.frame for part in parts]
    inputs: dict[tuple[str, str], list[SetInputs]] = {}
    for frame in frames:
        for place, found in frame.inputs.items():
            known = inputs.setdefault(place, [])
            known += [one for one in found if one not in known]
    return replace(
        frames[0],
        trials=pd.DataFrame([row for frame in frames for row in frame.rows]),
        points=_stacked([frame.points for frame in frames]),
        images=_stacked([frame.images for frame in frames]),
        attempts=tuple(attempt for frame in frames for attempt in frame.attempts),
        recorded={trial: one for frame in frames for trial, one in frame.recorded.items()},
        damage=tuple(line for frame in frames for line in frame.damage),
        looks={trial: look for frame in frames for trial, look in frame.looks.items()},
        axes=axes,
        inputs=inputs,
    )


def _stacked(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Rows below rows; categories stay categories, since there may be millions of points."""
    found = list(frames)
    there = [frame for frame in found if len(frame)] or found[:1]
    names = dict.fromkeys(name for frame in there for name in frame.columns)
    return pd.DataFrame(
        {name: _column([frame[name] for frame in there]) for name in names}, copy=False
    )


def _column(parts: Sequence[pd.Series]) -> Any:
    are_categories = all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts)
    if are_categories and len({part.cat.categories.dtype for part in parts}) == 1:
        return union_categoricals(list(parts))
    if len({part.dtype for part in parts}) > 1:
        parts = [part.astype(object) for part in parts]
    return pd.concat(parts, ignore_index=True)
