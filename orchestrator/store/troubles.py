"""What went wrong with a sweep's trials and was overcome, and how those ended that failed.

Both are said at the end of a run, also of one that succeeded, and by `normsweep status`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.plan import Plan
from orchestrator.plan.outcomes import CHECKPOINT, failure_kind
from orchestrator.plan.states import State
from orchestrator.store.records import Record
from orchestrator.store.trials import Look

GAVE_UP = (State.FAILED, State.INFEASIBLE)
MOST_SHOWN = 20
SHOWN = ("kind", "message", "host", "rank", "step", "reached", "log")


def troubles(plan: Plan, looks: Mapping[str, Look], run: str | None = None) -> list[dict[str, Any]]:
    """The failed attempts after which trials were tried again, and damaged checkpoints passed over.

    With `run`, those of its attempts. What ended a trial for good is not among them.
    """
    return [
        {"trial": trial.id, "name": trial.name, **trouble}
        for trial in plan.trials
        for trouble in _of_trial(looks[trial.id], run)
    ]


def _of_trial(look: Look, run: str | None) -> Iterator[dict[str, Any]]:
    of_run = {one["attempt"] for one in look.tried if one.get("run") == run}
    newest = max(look.attempts, default=0)
    found = [
        {"attempt": failure["attempt"], **{name: failure.get(name) for name in SHOWN}}
        for failure in look.failures
        if failure_kind(failure["kind"]).is_trouble
        and not (look.state in GAVE_UP and failure["attempt"] == newest)
    ]
    found += [
        {"attempt": attempt, "kind": CHECKPOINT, "message": note}
        for attempt, note in look.passed_over
    ]
    asked = [one for one in found if run is None or one["attempt"] in of_run]
    yield from sorted(asked, key=lambda one: int(one["attempt"]))


def in_words(found: Sequence[Mapping[str, Any]], store_uri: str) -> list[str]:
    """A heading and a line for each of `troubles`."""
    if not found:
        return []
    lines = [f"Overcome: {len(found)}"]
    for one in found[:MOST_SHOWN]:
        message = str(one["message"]).splitlines()[0] if one["message"] else ""
        words = failure_kind(one["kind"]).words
        lines.append(f"  {one['name']}, attempt {one['attempt']} {words}{_where(one)}: {message}")
        if one.get("log"):
            lines.append(f"    log: {store_uri}/{one['log']}")
    if len(found) > MOST_SHOWN:
        lines.append(f"  and {len(found) - MOST_SHOWN} more")
    return lines


def diverged_in_words(plan: Plan, looks: Mapping[str, Look]) -> list[str]:
    """A line for each trial that diverged: at which step, and what was seen at which layer."""
    lines = []
    for trial in plan.trials:
        result = looks[trial.id].result
        if result is not None and result["outcome"] == "diverged":
            why = f": {result['why']}" if result.get("why") else ""
            lines.append(f"  {trial.name} diverged at step {result['step']}{why}")
    return lines


def end_in_words(name: str, state: State, failure: Record, store_uri: str) -> str:
    """How a trial failed for good: why, where, what a person can do, and where its output is."""
    kind = f"{failure['kind']}: " if state == State.FAILED else ""
    lines = [f"{state}: {name}: {kind}{failure['message'].rstrip()}"]
    outcome = failure_kind(failure["kind"])
    where = _where(failure).strip()
    if where:
        lines.append(f"  {where[0].upper()}{where[1:]}, attempt {failure.get('attempt', '?')}.")
    if outcome.hint:
        lines.append(f"  {outcome.hint}")
    if failure.get("log"):
        lines.append(f"  Log: {store_uri}/{failure['log']}")
    return "\n".join(lines)


def _where(one: Mapping[str, Any]) -> str:
    rank, host = one.get("rank"), one.get("host")
    step = one.get("reached") if one.get("reached") is not None else one.get("step")
    parts = [] if not step else [f"at step {step}"]
    parts += [] if not host else [f"on {host}"]
    parts += [] if rank is None else [f"in rank {rank}"]
    return "".join(f" {part}" for part in parts)
