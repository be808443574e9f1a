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
from orchestrator.plan.states import State
from orchestrator.store.attempts import Attempt
from orchestrator.store.base import Store
from orchestrator.store.trials import Look, read_trial
from trainers.spec import RunSpec

AXES = ("backbone", "norm", "task", "width", "depth", "seed")
POINT_COLUMNS = ("trial", *AXES, "size", "metric", "step", "value", "time", "attempt")


@dataclass(frozen=True)
class Frame:
    """A sweep's trials and points, and the attempts they come from (`attempt.json` as it was written).

    `recorded` has the specs that each trial was trained with, by its own record; `damage` a sentence for each damaged file,
    `looks` what each trial is.
    """

    trials: pd.DataFrame
    points: pd.DataFrame
    attempts: tuple[Mapping[str, Any], ...] = ()
    recorded: Mapping[str, tuple[RunSpec, ...]] = field(default_factory=dict)
    damage: tuple[str, ...] = ()
    looks: Mapping[str, Look] = field(default_factory=dict)

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
        counts = self.trials["state"].value_counts()
        return {state.value: int(counts[state]) for state in State if state in counts}


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
    state, step = State(row["state"]), row["step"]
    return str(state) if step is None or math.isnan(step) else state.at(step, row["steps"])


def read_frame(plan: Plan, store: Store) -> Frame:
    """Read every trial of the plan from the store. A trial the store does not know is pending.

    Of a trial whose files are damaged no point is taken: some would be missing, and others repetitions.
    """
    rows, points = [], []
    attempts: list[Attempt] = []
    recorded, damage = {}, []
    looks: dict[str, Look] = {}
    for trial in plan.trials:
        look, read = read_trial(store, trial.id)
        looks[trial.id] = look
        if look.trained and look.state != State.PENDING:
            recorded[trial.id] = look.trained
        rows.append(_trial_row(trial, look))
        damage += [str(problem) for problem in look.damaged]
        attempts += look.tried
        if look.state != State.DAMAGED:
            axes = [trial.id, *(trial.axes.get(axis) for axis in AXES), rows[-1]["size"]]
            points += [[*axes, p.metric, p.step, p.value, p.time, p.attempt] for p in read]
    frame = pd.DataFrame(points, columns=list(POINT_COLUMNS))
    last = frame.groupby("trial")["step"].max()
    trials = pd.DataFrame(rows)
    trials["step"] = [row["step"] if row["step"] is not None else last.get(row["trial"]) for row in rows]
    return Frame(trials, frame, tuple(attempts), recorded, tuple(damage), looks)


def _smaller_micro_batch(tried: Sequence[Attempt]) -> str:
    """`micro-batch 2` where the newest attempt's was less than the first one's, which CUDA running out of memory leads to."""
    sizes = [size for attempt in tried if (size := attempt.get("placement", {}).get("micro_batch")) is not None]
    return f"micro-batch {sizes[-1]}" if sizes and sizes[-1] < sizes[0] else ""


def _trial_row(trial: Trial, look: Look) -> dict[str, Any]:
    result = look.result if look.state.has_result else None
    failure = look.failure if look.state in (State.FAILED, State.INFEASIBLE, State.INTERRUPTED) else None
    workers = dict.fromkeys(spec.placement.workers for spec in look.trained or (trial.spec,))
    evaluated = [name for spec in (trial.spec, *look.trained) for name in spec.observe.evaluate]
    return {
        "trial": trial.id,
        "name": trial.name,
        **{axis: trial.axes.get(axis) for axis in AXES},
        "size": size_label(trial.axes.get("width"), trial.axes.get("depth")),
        "parameters": trial.parameters,
        "state": look.state.value,
        "reason": "; ".join([*([failure["message"]] if failure else []), *map(str, look.damaged)]),
        "step": result["step"] if result else None,
        "steps": trial.spec.training.steps,
        "workers": ", then ".join(map(str, workers)),
        "attempts": len(look.attempts),
        "micro_batch": _smaller_micro_batch(look.tried),
        "evaluate": tuple(dict.fromkeys(evaluated)),
    }
