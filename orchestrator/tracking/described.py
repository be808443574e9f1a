"""What a tracker shows of a trial besides its curves, and of a sweep besides its trials."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from orchestrator.plan import Plan, Trial
from orchestrator.plan.axes import AXES
from orchestrator.store.journals import Point
from orchestrator.tracking.base import DataSet, Value
from orchestrator.tracking.nights import metric_name
from trainers.choice import Choice
from trainers.spec import RunSpec

GROUP = re.compile(r"feature/mean_square/group_\d+")
LARGEST, LOG_LARGEST = "feature/mean_square/max", "feature/mean_square/log10_max"
MOST_COLUMNS = 6  # of a kind: more do not fit beside each other


def params_of(trial: Trial, spec: RunSpec) -> dict[str, str]:
    """Every field of the spec that was trained, by name.

    The axes as the plan labels them, `parameters`, fields of `training` by their own names, all
    others by part and name (`observe.log_every`), and knobs by what they belong to (`norm.eps`).
    """
    fields: dict[str, Any] = {**trial.axes, "parameters": trial.parameters}
    choices = {"backbone": spec.model.backbone, "norm": spec.model.norm, "task": spec.task}
    for part, choice in choices.items():
        fields |= {f"{part}.name": choice.name}
        fields |= {f"{part}.{knob}": value for knob, value in choice.knobs.items()}
    fields |= {name: v for name, v in spec.training.model_dump().items() if name not in fields}
    for part, values in (
        ("model", spec.model),
        ("data", spec.data),
        ("observe", spec.observe),
        ("placement", spec.placement),
    ):
        fields |= {
            f"{part}.{name}": getattr(values, name)
            for name in type(values).model_fields
            if not isinstance(getattr(values, name), Choice)
        }
    fields |= {
        "placement.micro_batch": spec.micro_batch,
        "placement.accumulation": spec.accumulation,
    }
    return {metric_name(name): _text(name, value) for name, value in fields.items()}


def _text(name: str, value: Any) -> str:
    if isinstance(value, list | tuple) and name not in AXES:
        return ", ".join(map(str, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(AXES[name].label_of(value) if name in AXES else value)


def data_of(spec: RunSpec, evaluated: Mapping[str, str]) -> list[DataSet]:
    """The sets that a trial sees; `evaluated` has the checksums of those it is evaluated on."""
    sets = [DataSet(spec.data.train, spec.data.train_sha256, "training")]
    return sets + [
        DataSet(name, evaluated[name], "evaluation")
        for name in spec.observe.evaluate
        if name in evaluated
    ]


def columns_of(plan: Plan) -> tuple[list[str], list[str]]:
    """The params and metrics with which a table of the sweep's trials begins."""
    varied = [
        axis.name
        for axis in plan.axes
        if len({str(trial.axes.get(axis.name)) for trial in plan.trials}) > 1
    ]
    sets = dict.fromkeys(name for trial in plan.trials for name in trial.spec.observe.evaluate)
    scores = [f"val/{name}/psnr" for name in sets]
    return (varied or ["norm"])[:MOST_COLUMNS], [*scores[:MOST_COLUMNS], LARGEST, "train/loss"]


def values_of(points: Iterable[Point]) -> list[Value]:
    """Points as a tracker takes them, with the largest of the groups' features beside the groups.

    The largest of groups, one of which is not a number, is none either.
    """
    values = []
    for _, line in groupby(points, key=lambda point: (point.attempt, point.seq)):
        own = list(line)
        values += [Value(p.metric, p.step, p.value, round(p.time * 1000)) for p in own]
        values += _largest([p for p in own if GROUP.fullmatch(p.metric)])
    return values


def _largest(groups: Sequence[Point]) -> Iterator[Value]:
    if not groups:
        return
    squares = [point.value for point in groups]
    largest = math.nan if any(map(math.isnan, squares)) else max(squares)
    at = groups[0].step, round(groups[0].time * 1000)
    yield Value(LARGEST, at[0], largest, at[1])
    if not largest <= 0:
        yield Value(LOG_LARGEST, at[0], math.log10(largest), at[1])
