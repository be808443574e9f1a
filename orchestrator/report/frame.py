"""What the store knows of a sweep's trials, as two tidy pandas frames. Everything in the report is computed from these.

`trials` has one row per trial of the plan: trial, name, the axes, size, parameters, state, step, steps, ...
`points` has one row per (trial, metric, step), with the trial's axes beside it. Where two attempts journalled the same
(metric, step), the first counts: that rule is `orchestrator.store.journals.JournalReader`'s, shared with tracking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from orchestrator.plan.expand import Plan, Trial
from orchestrator.store.attempts import Attempt, attempt_numbers, read_attempts, read_failure, recorded_specs
from orchestrator.store.base import Store
from orchestrator.store.journals import read_journal
from orchestrator.store.trials import Look, look_at, read_result
from trainers.spec import RunSpec

AXES = ("backbone", "norm", "task", "width", "depth", "seed")
ENDED = ("done", "diverged", "stopped")
POINT_COLUMNS = ("trial", *AXES, "size", "metric", "step", "value", "time", "attempt")


@dataclass(frozen=True)
class Frame:
    """A sweep's trials and points, and the attempts they come from (`attempt.json` as it was written).

    `recorded` has the specs that each trial was trained with, by its own record; `damage` a sentence for each damaged file.
    """

    trials: pd.DataFrame
    points: pd.DataFrame
    attempts: tuple[Mapping[str, Any], ...] = ()
    recorded: Mapping[str, tuple[RunSpec, ...]] = field(default_factory=dict)
    damage: tuple[str, ...] = ()

    def names(self, axis: str) -> list[Any]:
        """The values of an axis (or `size`) in file order."""
        return list(dict.fromkeys(self.trials[axis]))

    def metric(self, name: str) -> pd.DataFrame:
        return self.points[self.points["metric"] == name]

    def evaluation_sets(self) -> list[str]:
        """The evaluation sets of any trial, in file order."""
        return list(dict.fromkeys(name for names in self.trials["evaluate"] for name in names))

    def states(self) -> dict[str, int]:
        """How many trials are in which state, ended ones first."""
        counts = {str(state): n for state, n in self.trials["state"].value_counts().items()}
        order = (*ENDED, "running", "interrupted", "pending", "failed", "infeasible", "damaged")
        return {
            state: int(counts[state]) for state in sorted(counts, key=lambda s: order.index(s) if s in order else 99)
        }


def parts(frame: pd.DataFrame, *keys: str) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The rows grouped by some columns, in the order they first appear."""
    return [(tuple(key), part) for key, part in frame.groupby(list(keys), sort=False, dropna=False)]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def size_label(width: Any, depth: Any) -> str:
    """`w24 d2`: width and depth, as the backbone counts them."""
    parts = [f"{letter}{value}" for letter, value in (("w", width), ("d", depth)) if value is not None]
    return " ".join(parts) or "as preset"


def in_words(row: Mapping[str, Any]) -> str:
    """A trial's state for a reader: `diverged at step 37`, `running, step 40 of 100`."""
    state, step = row["state"], row["step"]
    if step is None or math.isnan(step):
        return str(state)
    if state in ("diverged", "stopped"):
        return f"{state} at step {step:.0f}"
    if state in ("running", "interrupted"):
        return f"{state}, step {step:.0f} of {row['steps']}"
    return str(state)


def read_frame(plan: Plan, store: Store) -> Frame:
    """Read every trial of the plan from the store. A trial the store does not know is pending.

    Of a trial whose files are damaged no point is taken: some would be missing, and others repetitions.
    """
    rows, points, attempts = [], [], []
    recorded, damage = {}, []
    for trial in plan.trials:
        journal = read_journal(store, trial.id)
        look = look_at(store, trial.id, journal)
        tried = read_attempts(store, trial.id)
        specs = recorded_specs(store, trial.id, tried)
        if specs and look.state != "pending":
            recorded[trial.id] = specs
        rows.append(_trial_row(trial, store, look, tried, specs))
        damage += [str(problem) for problem in look.damaged]
        attempts += tried
        if look.state != "damaged":
            axes = [trial.id, *(trial.axes.get(axis) for axis in AXES), rows[-1]["size"]]
            points += [[*axes, p.metric, p.step, p.value, p.time, p.attempt] for p in journal.points]
    frame = pd.DataFrame(points, columns=list(POINT_COLUMNS))
    last = frame.groupby("trial")["step"].max()
    trials = pd.DataFrame(rows)
    trials["step"] = [row["step"] if row["step"] is not None else last.get(row["trial"]) for row in rows]
    return Frame(trials, frame, tuple(attempts), recorded, tuple(damage))


def _smaller_micro_batch(tried: Sequence[Attempt]) -> str:
    """`micro-batch 2` where the newest attempt's was less than the first one's, which CUDA running out of memory leads to."""
    sizes = [size for attempt in tried if (size := attempt.get("placement", {}).get("micro_batch")) is not None]
    return f"micro-batch {sizes[-1]}" if sizes and sizes[-1] < sizes[0] else ""


def _trial_row(
    trial: Trial, store: Store, look: Look, tried: Sequence[Attempt], specs: Sequence[RunSpec]
) -> dict[str, Any]:
    result = read_result(store, trial.id) if look.state in ENDED else None
    failure = read_failure(store, trial.id) if look.state in ("failed", "infeasible", "interrupted") else None
    workers = dict.fromkeys(spec.placement.workers for spec in specs or (trial.spec,))
    evaluated = [name for spec in (trial.spec, *specs) for name in spec.observe.evaluate]
    return {
        "trial": trial.id,
        "name": trial.name,
        **{axis: trial.axes.get(axis) for axis in AXES},
        "size": size_label(trial.axes.get("width"), trial.axes.get("depth")),
        "parameters": trial.parameters,
        "state": look.state,
        "reason": "; ".join([*([failure["message"]] if failure else []), *map(str, look.damaged)]),
        "step": result["step"] if result else None,
        "steps": trial.spec.training.steps,
        "workers": ", then ".join(map(str, workers)),
        "attempts": len(attempt_numbers(store, trial.id)),
        "micro_batch": _smaller_micro_batch(tried),
        "evaluate": tuple(dict.fromkeys(evaluated)),
    }
