"""Closing what a driver left open: attempts of its own without a result or a failure, which would count as running."""

from __future__ import annotations

import json
from collections.abc import Iterable

from orchestrator.store.base import Store
from orchestrator.store.trials import DAMAGED, newest_attempt, read_failure, read_result, write_failure


def close_attempts(store: Store, trial_ids: Iterable[str], run: str, kind: str, message: str) -> None:
    """Record why the open attempts that the run `run` began have ended; those of other runs are left alone."""
    for trial_id in trial_ids:
        attempt = newest_attempt(store, trial_id)
        if attempt == 0 or read_failure(store, trial_id) is not None or read_result(store, trial_id) is not None:
            continue
        try:
            began_by = json.loads(store.get(f"trials/{trial_id}/attempts/{attempt}/attempt.json")).get("run")
        except DAMAGED:
            continue
        if began_by == run:
            step = _newest_step(store, trial_id)
            write_failure(store, trial_id, attempt, kind, message, final=False, step=step)


def _newest_step(store: Store, trial_id: str) -> int:
    """Of the newest checkpoint that counts; 0 where there is none."""
    sealed = [key for key in store.list(f"trials/{trial_id}/checkpoints") if key.endswith("/manifest.json")]
    return max((int(key.split("/")[3].split("-")[1]) for key in sealed), default=0)
