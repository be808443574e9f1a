"""What the summary of a run says of each trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.plan import Plan
from orchestrator.store.trials import Look


def outcomes(plan: Plan, looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """How far each trial of a sweep is: its state, and what its result and failure say."""
    return [_outcome(trial.name, looks[trial.id]) for trial in plan.trials]


def _outcome(name: str, look: Look) -> dict[str, Any]:
    result, failure = look.result, None if look.state.has_result else look.failure
    metrics = {} if result is None else result["metrics"]
    return {
        "trial": look.trial,
        "name": name,
        "state": look.state,
        "step": look.step if result is None else result["step"],
        "attempts": len(look.attempts),
        # Numbers that JSON lacks are kept as text ("nan").
        "metrics": {key: None if isinstance(one, str) else one for key, one in metrics.items()},
        "why": None if result is None else result.get("why"),
        "failure": None if failure is None else failure["kind"],
        "message": None if failure is None else failure["message"],
        "log": None if failure is None else failure.get("log"),
    }
