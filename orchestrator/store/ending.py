"""How a run ended: its exit code, and what it did in words and as counts."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import TrialsFailed
from orchestrator.plan import Plan
from orchestrator.plan.left import LEFT, left_as_json, left_in_words
from orchestrator.plan.show import counts
from orchestrator.plan.states import State
from orchestrator.store.base import Store
from orchestrator.store.retention import retained
from orchestrator.store.stops import has_ended_for
from orchestrator.store.summary import ended_elsewhere, outcomes
from orchestrator.store.trials import Look
from orchestrator.store.troubles import diverged_in_words, in_words, troubles

TO_TRY_AGAIN = (State.FAILED, State.INFEASIBLE, State.INTERRUPTED)


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, its warnings, and its outcome in words and as counts."""

    exit_code: int
    warnings: tuple[str, ...]
    summary: str = ""
    counts: Mapping[str, Any] = field(default_factory=dict)  # with --json, the last line


@dataclass(frozen=True)
class This:
    """What a run knows of itself: its name, its report's place (None after a signal), and so on.

    `runs`: where the sweep's runs are. `again`: the command that continues. `used_up`: the budget
    that was, if any.
    """

    run: str
    report: str | None
    runs: str
    again: str
    warnings: tuple[str, ...]
    used_up: str
    gpu_hours: float


def ended(
    plan: Plan, store: Store, looks: Mapping[str, Look], todo: AbstractSet[str], this: This
) -> Ended:
    """How a run over these trials ended. `todo`: the ids of those that were to be trained."""
    states = {trial_id: look.state for trial_id, look in looks.items()}
    trials = outcomes(plan, looks)
    elsewhere = ended_elsewhere(looks, todo, this.run)
    retries = troubles(plan, looks, this.run or None)
    said = [*diverged_in_words(plan, looks), *in_words(retries, store.uri)]
    fine = sum(look.state == State.STOPPED and has_ended_for(plan, look) for look in looks.values())
    summary: dict[str, Any] = {
        **counts(plan, states),
        "trained": len(todo) - elsewhere,
        "elsewhere": elsewhere,
        "report": this.report,
        "trials": trials,
        "retries": retries,
    }
    fine += summary["done"]
    if (kept := retained(store, plan, looks)) is not None:
        said.insert(0, f"{kept}.")
        summary["keep"] = vars(kept)
    if this.used_up:  # nothing has gone wrong with trials that only lack time
        fine += sum(summary[state] for state in LEFT)
        used = {"used_up": this.used_up, "gpu_hours": round(this.gpu_hours, 4)}
        summary["budget"] = {**used, **left_as_json(plan, trials)}
        last = [left_in_words(plan, trials, this.used_up, this.again)]
    else:
        last = []
        if any(state in TO_TRY_AGAIN for state in states.values()):
            said.append(f"To try again what is left: {this.again}")
    where = [f"Report: {this.report}", f"Runs:   {this.runs}"]
    text = "" if this.report is None else "\n".join([_in_words(summary), *said, *where])
    return Ended(
        0 if fine == summary["total"] else TrialsFailed.exit_code,
        this.warnings,
        "\n".join([text, *last]),
        summary,
    )


def _in_words(summary: Mapping[str, Any]) -> str:
    """Say how many trials are in which state, leaving out rare states that none is in."""
    rare = "".join(
        f"{summary[state]} {state}, "
        for state in (State.INFEASIBLE, State.DAMAGED, State.STOPPED, State.RUNNING)
        if summary[state]
    )
    left = f"{summary['interrupted']} interrupted, " if summary["interrupted"] else ""
    others = f" Trained by another run: {summary['elsewhere']}." if summary.get("elsewhere") else ""
    return (
        f"{summary['sweep']}: {summary['done']} done, {summary['diverged']} diverged, "
        f"{summary['failed']} failed, {rare}{left}{summary['pending']} pending.{others}"
    )
