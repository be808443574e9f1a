"""Trials of a baseline file, or of another sweep, beside those of a sweep: one frame with both.

They get names of their own, so that all that compares norms compares them too: `i_ln of
baseline.json` is the norm of the trials that `i_ln` is compared with, and ` of baseline.json` ends
their ids. They stand where the sweep has the same norm, network and task. Of several there, those
with the same recipe and data count; if none has, what they differ in is found by whoever compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.expand import Plan
from orchestrator.report.claims.material import Cell, Material
from orchestrator.report.frame import Frame, records, size_label
from trainers.spec import RunSpec

NEEDED = r"val/|train/"  # the points that a comparison looks at


@dataclass(frozen=True)
class Other:
    """Trials from elsewhere: a frame of them, and the spec of each by its id."""

    frame: Frame
    specs: Mapping[str, RunSpec]


def beside(plan: Plan, own: Frame, other: Other, name: str) -> Frame:
    """The frame of a sweep with the trials of `other` in it, which is called `name`."""
    mark = f" of {name}"
    known = {row["trial"]: row for row in records(other.frame.trials)}
    (seeds,) = (axis.name for axis in own.axes if axis.role == "repeat")
    rows = [
        {
            **known[trial],
            **cell.labels,
            COMPARED: f"{cell.norm}{mark}",
            seeds: seed,
            "trial": f"{trial}{mark}",
            "size": size_label(own.axes, cell.labels),
        }
        for cell in Material(plan, own).cells
        for seed, trial in _there(cell, other.specs).items()
    ]
    return replace(
        own,
        trials=_joined(own.trials, pd.DataFrame(rows)),
        points=_joined(_needed(own.points), _marked(_needed(other.frame.points), mark)),
        images=_joined(own.images, _marked(other.frame.images, mark)),
        recorded={**own.recorded, **_marked_keys(other.frame.recorded, mark)},
        looks={**own.looks, **_marked_keys(other.frame.looks, mark)},
    )


def as_recorded(trial: str) -> str:
    """A trial's id in the store or the file: without the mark."""
    return trial.partition(" of ")[0]


def without_seed(spec: RunSpec) -> dict[str, Any]:
    """All that can change the weights of a trial, but for its seed."""
    said = spec.model_dump(mode="json", include={"model", "task", "data", "training"})
    del said["training"]["seed"], said["training"]["initial_strict"]
    return said


def _there(cell: Cell, specs: Mapping[str, RunSpec]) -> dict[int, str]:
    """The trials by seed that a cell's are compared with."""
    wanted = cell.trials[0].spec
    alike = {
        trial: spec
        for trial, spec in specs.items()
        if spec.task == wanted.task
        and (spec.model.norm, spec.model.backbone) == (wanted.model.norm, wanted.model.backbone)
    }
    equal = {
        trial: spec for trial, spec in alike.items() if without_seed(spec) == without_seed(wanted)
    }
    found: dict[int, str] = {}
    for trial, spec in (equal or alike).items():
        found.setdefault(spec.training.seed, trial)
    return found


def _needed(points: pd.DataFrame) -> pd.DataFrame:
    return points[points["metric"].astype(str).str.match(NEEDED)] if len(points) else points


def _marked(rows: pd.DataFrame, mark: str) -> pd.DataFrame:
    return rows.assign(trial=rows["trial"].astype(str) + mark) if len(rows) else rows


def _marked_keys(values: Mapping[str, Any], mark: str) -> dict[str, Any]:
    return {f"{trial}{mark}": value for trial, value in values.items()}


def _joined(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    if other.empty:
        return one
    if one.empty:
        return other
    # As objects, since categories and numbers that are missing differ between the two.
    return pd.concat([one.astype(object), other.astype(object)], ignore_index=True)
