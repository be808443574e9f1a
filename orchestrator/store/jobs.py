"""How a sweep's job on a cluster ended, kept beside its trials: `jobs/<name>.json`.

The job itself exits 0 once this is written: a cluster's operator answers any other code with a whole new cluster, which cures
neither a failed trial nor a mistake in the sweep.
"""

from __future__ import annotations

import json
import time
from typing import Any

from orchestrator.store.base import Store


def write_outcome(store: Store, job: str, exit_code: int, message: str) -> None:
    record = {"job": job, "exit_code": exit_code, "message": message, "time": time.time()}
    store.put(f"jobs/{job}.json", json.dumps(record, indent=2).encode() + b"\n")


def read_outcome(store: Store, job: str) -> dict[str, Any] | None:
    try:
        outcome: dict[str, Any] = json.loads(store.get(f"jobs/{job}.json"))
    except KeyError:
        return None
    return outcome


def clear_outcome(store: Store, job: str) -> None:
    """Before the job is made anew."""
    store.delete(f"jobs/{job}.json")
