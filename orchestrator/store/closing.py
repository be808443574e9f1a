"""Closes attempts that a driver left without a result or a failure: they would count as running."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.store.attempts import attempt_key, read_attempt, write_failure
from orchestrator.store.base import Store
from orchestrator.store.listing import listed
from orchestrator.store.records import Damaged
from orchestrator.store.results import read_result


def close_attempts(
    store: Store, trial_ids: Iterable[str], run: str, kind: str, message: str
) -> None:
    """Record why the open attempts that the run `run` began have ended.

    Attempts of other runs are left alone.
    """
    for trial_id in trial_ids:
        listing = listed(store, trial_id)
        number = listing.newest
        if number == 0 or attempt_key(trial_id, number, "failure.json") in listing.records:
            continue
        attempt = read_attempt(store, trial_id, number)
        if (
            isinstance(attempt, Damaged)
            or attempt.get("run") != run
            or read_result(store, trial_id) is not None
        ):
            continue
        write_failure(store, trial_id, number, kind, message, final=False, step=listing.step)
