"""How a sweep's job on a cluster ended, kept beside its trials: `jobs/<name>.json`.

The job itself exits 0 once this is written: a cluster's operator answers any other code with a whole new cluster, which cures
neither a failed trial nor a mistake in the sweep.
"""

from __future__ import annotations

import time
from typing import Any

from orchestrator.errors import EnvironmentProblem
from orchestrator.store import records
from orchestrator.store.base import Store
from orchestrator.store.records import Damaged, read_record, sealed


def write_outcome(store: Store, job: str, exit_code: int, message: str, summary: str = "") -> None:
    """`message`: what people were warned of; `summary`: what came out."""
    record = {
        "job": job,
        "exit_code": exit_code,
        "message": message,
        "summary": summary,
        "time": time.time(),
    }
    store.put(f"jobs/{job}.json", sealed(record))


def read_outcome(store: Store, job: str) -> dict[str, Any] | None:
    """How a job ended, where it did. Raises EnvironmentProblem where that cannot be read."""
    outcome = read_record(store, f"jobs/{job}.json", records.OUTCOME)
    if isinstance(outcome, Damaged):
        raise EnvironmentProblem(
            f"{store.uri}: {outcome}. `normsweep status FILE` says how far the trials are."
        )
    return outcome


def clear_outcome(store: Store, job: str) -> None:
    """Before the job is made anew."""
    store.delete(f"jobs/{job}.json")
