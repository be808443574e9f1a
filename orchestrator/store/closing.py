"""Closing what a driver left open: attempts of its own without a result or a failure, which would count as running."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.store.attempts import failure_at, newest_attempt, read_attempt, write_failure
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import newest_step
from orchestrator.store.records import Damaged
from orchestrator.store.trials import read_result


def close_attempts(store: Store, trial_ids: Iterable[str], run: str, kind: str, message: str) -> None:
    """Record why the open attempts that the run `run` began have ended; those of other runs are left alone."""
    for trial_id in trial_ids:
        number = newest_attempt(store, trial_id)
        if number == 0 or failure_at(store, trial_id, number) is not None or read_result(store, trial_id) is not None:
            continue
        attempt = read_attempt(store, trial_id, number)
        if not isinstance(attempt, Damaged) and attempt.get("run") == run:
            write_failure(store, trial_id, number, kind, message, final=False, step=newest_step(store, trial_id))
