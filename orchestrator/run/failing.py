"""What follows a failed attempt: its output and failure are kept, a full disk is waited for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan.outcomes import HUNG, failure_kind
from orchestrator.run.gang import Gang
from orchestrator.run.outcome import Failure
from orchestrator.store.attempts import log_key, write_failure
from orchestrator.store.base import Store
from orchestrator.store.leases import Lease

ROOM_BYTES = 16 << 20  # with less, the next attempt would soon end as this one did
ROOM_WITHIN_S = 30.0
LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Place:
    """Where an attempt is: `step` is that of its newest checkpoint, `reached` the last heard of."""

    store: Store
    trial_id: str
    attempt: int
    step: int
    reached: int


def record_failure(at: Place, gang: Gang, lease: Lease, failure: Failure, *, final: bool) -> None:
    """Keep the failure of an attempt and the output of its ranks; a gang that hangs is aborted.

    A store that is full or away keeps nothing, which ends no run. Raises Superseded: a lost lease
    writes no failure.
    """
    kept: set[int] = set()
    if failure_kind(failure.kind).is_trouble:
        kept = gang.keep_logs(stacks=failure.kind == HUNG)
    blamed = failure.rank if failure.rank is not None or len(gang.ranks) != 1 else 0
    shown = blamed if blamed in kept else min(kept, default=None)
    is_known = blamed is not None and blamed < len(gang.ranks)  # else it has not gathered
    more = {
        "attempt": at.attempt,
        "reached": at.reached,
        "host": str(gang.ranks[blamed]["host"]) if is_known and blamed is not None else "",
        "log": "" if shown is None else log_key(at.trial_id, at.attempt, shown),
        "traceback": failure.traceback,
        **({} if blamed is None else {"rank": blamed}),
    }
    with suppress(EnvironmentProblem):
        lease.renew()
        kind, message = failure.kind, failure.message
        write_failure(
            at.store, at.trial_id, at.attempt, kind, message, final=final, step=at.step, more=more
        )


def has_room(folders: Iterable[str | None]) -> bool:
    """Whether those of these folders that are on this host have room for another attempt."""
    there = [Path(folder) for folder in folders if folder and "://" not in folder]
    return all(shutil.disk_usage(folder).free >= ROOM_BYTES for folder in there if folder.is_dir())


def wait_for_room(
    folders: Iterable[str | None],
    within_s: float = ROOM_WITHIN_S,
    wait: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until somebody has made room; returns whether there is some now."""
    folders = list(folders)
    until = time.monotonic() + within_s
    while not (found := has_room(folders)) and time.monotonic() < until:
        wait(LOOK_EVERY_S)
    return found
