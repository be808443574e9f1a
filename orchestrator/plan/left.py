"""What a run that ended in time leaves to the next one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.plan.expand import Plan
from orchestrator.plan.show import duration, seconds_left, trials_in_words
from orchestrator.plan.states import State

# Trials in these states lack nothing but time.
LEFT = (State.INTERRUPTED, State.PENDING, State.RUNNING)
Outcomes = Iterable[Mapping[str, Any]]  # as the summary of a run lists them


def left_in_words(plan: Plan, trials: Outcomes, budget: str, command: str) -> str:
    """What is left once a `budget` ("8 h") is used up, and the command that continues."""
    states = [one["state"] for one in trials if one["state"] in LEFT]
    if not states:
        return f"The budget of {budget} is used up, and nothing is left to do."
    pending = states.count(State.PENDING)
    begun, elsewhere = states.count(State.INTERRUPTED), states.count(State.RUNNING)
    parts = [f"{begun} interrupted, which go on from their checkpoints"] if begun else []
    parts += [f"{elsewhere} that another run trains"] if elsewhere else []
    parts += [f"{pending} pending"] if pending else []
    seconds = seconds_left(plan.trials, _reached(trials))
    return (
        f"The budget of {budget} is used up. {trials_in_words(len(states))} left, predicted to "
        f"take {duration(seconds)} one after the other: {', '.join(parts)}.\n"
        f"To continue: {command}"
    )


def left_as_json(plan: Plan, trials: Outcomes) -> dict[str, Any]:
    """The same for programs."""
    reached = _reached(trials)
    return {
        "trials_left": len(reached),
        "predicted_seconds_left": round(seconds_left(plan.trials, reached), 1),
    }


def _reached(trials: Outcomes) -> dict[str, int]:
    """The step from which the next run goes on with each trial."""
    return {one["trial"]: one["step"] for one in trials if one["state"] in LEFT}
