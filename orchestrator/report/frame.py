"""What the store knows of a sweep's trials, as two tidy pandas frames. Everything in the report is computed from these.

`trials` has one row per trial of the plan: trial, name, the axes, size, parameters, state, step, steps, ...
`points` has one row per (trial, metric, step), with the trial's axes beside it. Where two attempts journalled the same
(metric, step), the first counts: that rule is `orchestrator.store.trials.read_points`'s, shared with tracking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from orchestrator.plan.expand import Plan, Trial
from orchestrator.store.attempts import Attempt, read_attempts, read_failure
from orchestrator.store.base import Store
from orchestrator.store.journals import read_points
from orchestrator.store.trials import read_result, trial_state

AXES = ("backbone", "norm", "task", "width", "depth", "seed")
ENDED = ("done", "diverged", "stopped")
POINT_COLUMNS = ("trial", *AXES, "size", "metric", "step", "value", "time", "attempt")


@dataclass(frozen=True)
class Frame:
    """A sweep's trials and points, and the attempts they come from (`attempt.json` as it was written)."""

    trials: pd.DataFrame
    points: pd.DataFrame
    attempts: tuple[Mapping[str, Any], ...] = ()

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
        order = (*ENDED, "running", "interrupted", "pending", "failed", "infeasible")
        return {
            state: int(counts[state]) for state in sorted(counts, key=lambda s: order.index(s) if s in order else 99)
        }


def parts(frame: pd.DataFrame, *keys: str) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The rows grouped by some columns, in the order they first appear."""
    return [(tuple(key), part) for key, part in frame.groupby(list(keys), sort=False, dropna=False)]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def size_label(width: Any, depth: Any) -> str:
    """`w24 d2`: embed_dim and number of groups."""
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
    """Read every trial of the plan from the store. A trial the store does not know is pending."""
    rows, points, attempts = [], [], []
    for trial in plan.trials:
        tried = read_attempts(store, trial.id)
        rows.append(_trial_row(trial, store, tried))
        axes = [trial.id, *(trial.axes.get(axis) for axis in AXES), rows[-1]["size"]]
        points += [[*axes, p.metric, p.step, p.value, p.time, p.attempt] for p in read_points(store, trial.id)]
        attempts += tried
    frame = pd.DataFrame(points, columns=list(POINT_COLUMNS))
    last = frame.groupby("trial")["step"].max()
    trials = pd.DataFrame(rows)
    trials["step"] = [row["step"] if row["step"] is not None else last.get(row["trial"]) for row in rows]
    return Frame(trials, frame, tuple(attempts))


def _smaller_micro_batch(trial: Trial, tried: list[Attempt]) -> str:
    """`micro-batch 2` where the newest attempt's was less than planned, which CUDA running out of memory leads to."""
    size = tried[-1].get("placement", {}).get("micro_batch") if tried else None
    return f"micro-batch {size}" if size is not None and size < trial.spec.micro_batch else ""


def _trial_row(trial: Trial, store: Store, tried: list[Attempt]) -> dict[str, Any]:
    result = read_result(store, trial.id)
    state = trial_state(store, trial.id)
    failure = read_failure(store, trial.id) if state in ("failed", "infeasible", "interrupted") else None
    return {
        "trial": trial.id,
        "name": trial.name,
        **{axis: trial.axes.get(axis) for axis in AXES},
        "size": size_label(trial.axes.get("width"), trial.axes.get("depth")),
        "parameters": trial.parameters,
        "state": state,
        "reason": failure["message"] if failure else "",
        "step": result["step"] if result else None,
        "steps": trial.spec.training.steps,
        "workers": trial.spec.placement.workers,
        "attempts": len(tried),
        "micro_batch": _smaller_micro_batch(trial, tried),
        "evaluate": trial.spec.observe.evaluate,
    }
