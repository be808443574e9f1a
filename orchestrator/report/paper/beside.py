"""Each number of the paper with the sweep's own beside it, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.expand import Plan, Trial
from orchestrator.plan.states import State
from orchestrator.report.frame import Frame
from orchestrator.report.pairs import Place, Scores, scores
from orchestrator.report.paper.match import FAMILY_OF, Network, has_family, network
from orchestrator.report.paper.printed import Printed, printed
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.paired import other_seeds
from trainers.data.datasets import dataset

FP32 = "fp32"


@dataclass(frozen=True)
class Beside:
    """A number of the paper and ours.

    `norm` is the label of the sweep's norm, None if it has none that the paper's name means.
    `ours` has the scores of every seed. `difference` is the mean of them minus the paper's number,
    with a 95 % interval for other seeds on these images. `is_in_sweep` says whether the sweep was
    to have such a score, or has it.
    """

    printed: Printed
    network: Network | None
    norm: str | None
    ours: Scores | Unknown
    difference: Interval | Unknown
    is_in_sweep: bool

    @property
    def mean(self) -> float | None:
        """The mean over seeds and images."""
        return None if isinstance(self.ours, Unknown) else float(self.ours.table.mean())

    @property
    def margin(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.mean is None else self.mean - self.printed.value


@dataclass(frozen=True)
class _Known:
    """What the frame knows of trials, by id; `scored` has (trial, set, precision)."""

    frame: Frame
    states: Mapping[str, str]
    sizes: Mapping[str, str]
    evaluate: Mapping[str, tuple[str, ...]]
    scored: frozenset[tuple[str, str, str]]


def besides(plan: Plan, frame: Frame) -> tuple[Beside, ...]:
    """Every number of the paper, in its order; none if the sweep has no backbone of the paper."""
    if not has_family(plan):
        return ()
    known = _known(frame)
    networks: dict[Any, Network | None] = {}
    found = []
    for row in printed():
        key = (row.backbone, row.task, row.level)
        if key not in networks:
            networks[key] = network(plan, row)
        found.append(_beside(plan, row, networks[key], known))
    return tuple(found)


def _known(frame: Frame) -> _Known:
    trials, images = frame.trials, frame.images
    scored = set()
    if len(images):
        columns = images[["trial", "set", "inference_precision"]].drop_duplicates()
        scored = {(trial, name, how or FP32) for trial, name, how in columns.to_numpy()}
    means = frame.metrics(lambda metric: metric.startswith("val/"), "trial", "metric")
    for trial, metric in means.drop_duplicates().to_numpy():
        scored.add((trial, metric.removeprefix("val/").rpartition("/")[0], FP32))
    state, size, evaluate = (
        dict(zip(trials["trial"], trials[name], strict=True))
        for name in ("state", "size", "evaluate")
    )
    return _Known(frame, state, size, evaluate, frozenset(scored))


def _beside(plan: Plan, row: Printed, beside: Network | None, known: _Known) -> Beside:
    norm = None if beside is None else beside.norm(row.norm)
    if beside is None or norm is None:
        why = Unknown(_not_in_sweep(plan, row, beside))
        return Beside(row, beside, None, why, why, False)
    trials = beside.of(norm)
    names = (row.set, *dataset(row.set).also_named)
    is_scored = any((t.id, name, row.precision) in known.scored for t in trials for name in names)
    is_asked = any(name in known.evaluate[trial.id] for trial in trials for name in names)
    ours = _scores(row, beside, norm, names, known)
    if not is_scored and all(known.states[trial.id] == State.DONE for trial in trials):
        ours = Unknown("not scored" if row.precision == FP32 else f"not scored at {row.precision}")
    difference = ours if isinstance(ours, Unknown) else other_seeds(ours.table - row.value)
    is_in_sweep = is_scored or (is_asked and row.precision == FP32)
    return Beside(row, beside, norm, ours, difference, is_in_sweep)


def _not_in_sweep(plan: Plan, row: Printed, beside: Network | None) -> str:
    if beside is not None:
        return "norm not in the sweep"
    families = {trial.spec.model.backbone.name for trial in plan.trials}
    what = "task" if FAMILY_OF[row.backbone] in families else "backbone"
    return f"{what} not in the sweep"


def _scores(
    row: Printed, beside: Network, norm: str, names: tuple[str, ...], known: _Known
) -> Scores | Unknown:
    """The scores of a norm under any of the set's names."""
    size = known.sizes[beside.trials[0].id]
    found = [
        scores(
            known.frame, Place(beside.labels, size, name, row.metric, precision=row.precision), norm
        )
        for name in names
    ]
    return next((one for one in found if isinstance(one, Scores)), found[0])


def as_frame(rows: tuple[Beside, ...]) -> pd.DataFrame:
    """Every number of the paper, as paper.csv has them."""
    return pd.DataFrame([_line(row) for row in rows], dtype=object)  # None stays None


def _line(row: Beside) -> dict[str, Any]:
    of = row.printed
    ours = row.ours if isinstance(row.ours, Scores) else None
    interval = row.difference if isinstance(row.difference, Interval) else None
    no_interval = row.difference.reason if isinstance(row.difference, Unknown) else ""
    first: Trial | None = None
    if row.network is not None and row.norm is not None:
        first = row.network.of(row.norm)[0]
    return {
        "table": of.table,
        "row": of.row,
        "backbone": of.backbone,
        "norm": of.norm,
        "task": of.task,
        "level": of.level,
        "dataset": of.set,
        "metric": of.metric,
        "precision": of.precision,
        "paper": of.text,
        "ours": row.mean,
        "difference": row.margin,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "seeds": " ".join(map(str, ours.seeds)) if ours else "",
        "images": len(ours.images) if ours else None,
        "missing": row.ours.reason if isinstance(row.ours, Unknown) else "",
        "left_out": "; ".join(ours.left_out) if ours else "",
        "no_interval": no_interval if ours else "",
        "our_backbone": first.axes["backbone"] if first else "",
        "our_norm": first.axes[COMPARED] if first else "",
        "our_task": first.axes["task"] if first else "",
        "our_width": first.axes.get("width") if first else None,
        "our_depth": first.axes.get("depth") if first else None,
        "parameters": first.parameters if first else None,
        "steps": first.spec.training.steps if first else None,
        "trials": " ".join(ours.trials) if ours else "",
    }
