"""How a sweep's job on a cluster ended, kept beside its trials: `jobs/<name>.json`.

The job itself exits 0 once this is written: a cluster's operator answers any other code with a
whole new cluster, which cures neither a failed trial nor a mistake in the sweep.
"""

from __future__ import annotations

import time
from typing import Any

from orchestrator.errors import EnvironmentProblem
from orchestrator.hints import hint
from orchestrator.store import records
from orchestrator.store.base import Store
from orchestrator.store.records import Damaged, read_record, sealed


def write_outcome(store: Store, job: str, exit_code: int, message: str, summary: str = "") -> None:
    """Record how a job ended. `message`: the warnings that people saw; `summary`: what came out."""
    record = {
        "job": job,
        "exit_code": exit_code,
        "message": message,
        "summary": summary,
        "time": time.time(),
    }
    store.put(f"jobs/{job}.json", sealed(record))


def read_outcome(store: Store, job: str) -> dict[str, Any] | None:
    """How a job ended; None if it has not. Raises EnvironmentProblem if the record is damaged."""
    outcome = read_record(store, f"jobs/{job}.json", records.OUTCOME)
    if isinstance(outcome, Damaged):
        raise EnvironmentProblem(
            f"{store.uri}: {outcome}. `{hint('status FILE')}` shows how far the trials are."
        )
    return outcome


def clear_outcome(store: Store, job: str) -> None:
    """Delete the record of how a job ended, before a job of the same name is submitted."""
    store.delete(f"jobs/{job}.json")
