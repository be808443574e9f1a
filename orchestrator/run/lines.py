"""The lines of JSON that `normsweep run --json` prints: events, and the summary of each trial."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.plan import Plan
from orchestrator.store.trials import Look


def as_plain(value: Any) -> Any:
    """A value as JSON can hold it: null for a number that is not finite."""
    if isinstance(value, Mapping):
        return {key: as_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(record: Mapping[str, Any]) -> str:
    """One line: an event, and when it was printed (ISO 8601, UTC)."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({**as_plain(record), "time": now}, allow_nan=False)


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
        "failure": None if failure is None else failure["kind"],
        "message": None if failure is None else failure["message"],
    }
