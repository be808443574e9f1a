"""Scores of the degraded inputs (bicubic, noisy, JPEG, rainy), beside which those of norms stand.

Trials measure them at step 0, and `normsweep evaluate` beside fp32, with the code and convention of
every other score. They depend on the task and the set alone, so they are kept once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from orchestrator.store.scores import Score
from trainers.catalog import METRICS, TASKS
from trainers.spec import RunSpec

INPUT = "input"  # the source of these scores
Inputs = dict[tuple[str, str], list["SetInputs"]]  # by task, as the sweep names it, and set


@dataclass(frozen=True)
class SetInputs:
    """The scores of a set's degraded images, by metric and image; `kind` is `bicubic`, say."""

    kind: str
    how: str
    values: Mapping[str, Mapping[str, float]]

    def mean(self, metric: str) -> float | None:
        """Over the images; None if the metric was not measured."""
        scores = list(self.values.get(metric, {}).values())
        if not scores:
            return None
        return (math.fsum if all(map(math.isfinite, scores)) else sum)(scores) / len(scores)


def take(inputs: Inputs, task: str, spec: RunSpec, scores: Iterable[Score]) -> list[Score]:
    """Add what is new of a trial's input scores to `inputs`, and return its other scores."""
    others: list[Score] = []
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for score in scores:
        if score.source != INPUT:
            others.append(score)
            continue
        by_metric = found.setdefault((score.set, score.how), {})
        by_metric.setdefault(score.metric, {})[score.image] = score.value
    kind = TASKS[spec.task.name].facts.get(INPUT, "degraded input")
    for (name, how), values in found.items():
        known = inputs.setdefault((task, name), [])
        if (new := SetInputs(kind, how, values)) not in known:
            known.append(new)
    return others


def as_frame(inputs: Mapping[tuple[str, str], Sequence[SetInputs]]) -> pd.DataFrame:
    """A row for each task, set and metric, as inputs.csv."""
    rows: list[dict[str, Any]] = [
        {
            "task": task,
            "dataset": dataset,
            "metric": metric,
            "input": one.kind,
            "mean": one.mean(metric),
            "images": len(one.values[metric]),
            "how_scored": one.how,
        }
        for (task, dataset), found in inputs.items()
        for one in found
        for metric in METRICS.names
        if metric in one.values
    ]
    return pd.DataFrame(rows, dtype=object)
