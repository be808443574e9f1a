"""What the degraded input scores in each column of a comparison, or why that is not known."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.plan.states import State
from orchestrator.report.comparable import NOT_RECORDED
from orchestrator.report.frame import Frame
from orchestrator.report.tables import Column
from orchestrator.report.words import in_store


@dataclass(frozen=True)
class Reference:
    """One cell: the mean score of the degraded input, or why there is none (`missing`).

    Trials that recorded different scores give no mean: `missing` has both.
    """

    kind: str
    mean: float | None
    missing: str = ""


def reference(frame: Frame, column: Column) -> Reference:
    """What the degraded input scores in a column of a comparison."""
    known = frame.inputs.get((column.task, column.dataset), ())
    means = [mean for one in known if (mean := one.mean(column.metric)) is not None]
    if not means:
        return Reference("", None, _why_missing(frame, column))
    shown = list(dict.fromkeys(map(column.text, means)))
    if len(shown) > 1:
        return Reference(known[0].kind, None, f"differs between trials: {' and '.join(shown[:2])}")
    return Reference(known[0].kind, means[0])


def _why_missing(frame: Frame, column: Column) -> str:
    trials = frame.trials[frame.trials["task"] == column.task]
    if not any(column.dataset in names for names in trials["evaluate"]):
        return "not evaluated"
    begun = (trials["state"] != State.PENDING).any()
    return NOT_RECORDED if begun else str(State.PENDING)


def trial_to_evaluate(frame: Frame, task: str) -> str:
    """The id of a completed trial of the task; "" if there is none."""
    trials = frame.trials
    done = trials.loc[(trials["task"] == task) & (trials["state"] == State.DONE), "trial"]
    return in_store(str(done.iloc[0])) if len(done) else ""
