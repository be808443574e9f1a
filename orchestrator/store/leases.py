"""Leases: a trial is trained by one attempt at a time, whichever runs share the store.

    trials/<id>/attempts/<n>/attempt.json    put once: whoever makes it holds the lease
    trials/<id>/attempts/<n>/alive.json      replaced by its holder to renew the lease, or to end it
                                             by another run, which finds the holder dead

The attempt's number is the fencing token: it grows, is given out once, and whoever writes a
manifest or a result first asks whether it is still the newest. A lease ends with its trial's result
or its attempt's failure; or else when another run has seen `alive.json` unchanged for
EXPIRES_AFTER_S on its own clock, or knows that the holder's process is gone. Both replace the file
only with the tag that they saw last, so either the holder has renewed the lease or the other has
ended it. Clocks of different machines are never compared (decision 24).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Trial
from orchestrator.plan.states import State
from orchestrator.store import records
from orchestrator.store.attempts import (
    ALIVE,
    ALIVE_EVERY_S,
    ENDED_BY,
    SILENT_AFTER_S,
    Superseded,
    attempt_key,
    begin_attempt,
    read_attempt,
)
from orchestrator.store.base import Store, Unreadable
from orchestrator.store.listing import listed
from orchestrator.store.processes import Process, is_gone
from orchestrator.store.records import checked_record, sealed
from orchestrator.store.trials import Look, glance

RENEW_EVERY_S = ALIVE_EVERY_S
EXPIRES_AFTER_S = SILENT_AFTER_S
# A holder that could not renew its lease for so long stops. The rest of EXPIRES_AFTER_S is for
# ending its ranks.
STOPS_AFTER_S = 40.0
# For a renewal that is on its way as a holder finds its lease old, perhaps since both were paused.
WAITS_S = 5.0
NO_TAG = ""  # of a lease that was never renewed
Clock = Callable[[], float]


def since_boot() -> float:
    """Seconds since the machine's boot, asleep or awake.

    The usual monotonic clock stands still while a machine sleeps. Its leases expire meanwhile.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: a run, by its name, on a host.

    `process` is that of its driver, empty if that is not recorded.
    """

    run: str
    host: str
    process: Process


@dataclass(frozen=True)
class Seen:
    """A trial as a run sees it that would train it. `holder` is None if nobody holds its lease."""

    look: Look  # a glance
    holder: Holder | None = None
    tag: str = NO_TAG  # of the lease

    @property
    def state(self) -> State:
        return self.look.state

    @property
    def attempt(self) -> int:
        """The newest one's number; 0 if there is none."""
        return max(self.look.attempts, default=0)


def see(store: Store, trial_id: str) -> Seen:
    """Look who holds a trial: one listing, and for one that is held two small reads.

    Raises EnvironmentProblem if the store cannot be read.
    """
    listing = listed(store, trial_id)
    look = glance(store, listing, heard=True)
    if look.state != State.RUNNING:
        return Seen(look)
    try:
        content, tag = store.get_tagged(attempt_key(trial_id, listing.newest, ALIVE))
    except (KeyError, Unreadable):  # never renewed
        content, tag = b"", NO_TAG
    if _is_ended(content):
        return Seen(replace(look, state=State.INTERRUPTED))
    begun = read_attempt(store, trial_id, listing.newest)
    about = begun if isinstance(begun, dict) else {}
    process = about.get("process")
    holder = Holder(
        str(about.get("run", "")),
        str(about.get("host", "")),
        process if isinstance(process, dict) else {},
    )
    return Seen(look, holder, tag)


def _is_ended(content: bytes) -> bool:
    """Whether another run has ended the lease. A damaged file says nothing, and is replaced."""
    try:
        return ENDED_BY in checked_record(content, records.ALIVE)
    except ValueError:
        return False


def acquire(
    store: Store, trial: Trial, info: Mapping[str, Any], *, clock: Clock = since_boot
) -> Lease | Seen:
    """Begin the trial's next attempt and hold its lease; or what was seen, if that cannot be.

    `info` is kept in the attempt's record: `run`, `host` and `process` name the holder. An attempt
    that the same process began has ended, or it would not ask for another.
    """
    seen = see(store, trial.id)
    if seen.holder is not None:
        own = seen.holder.process == info.get("process", {}) and seen.holder.run == info.get("run")
        if not own or not end(store, trial.id, seen, str(info.get("run", "")), "begun again"):
            return seen
    elif seen.state.has_ended:
        return seen
    began = clock()
    if begin_attempt(store, trial, seen.attempt + 1, info):
        return Lease(store, trial.id, seen.attempt + 1, began, clock)
    return see(store, trial.id)


def end(store: Store, trial_id: str, seen: Seen, run: str, why: str) -> bool:
    """End a lease whose holder is dead. False if it has been renewed since it was seen.

    `run` does so, and `why` says how it knows. Afterwards any run may begin the next attempt.
    """
    key = attempt_key(trial_id, seen.attempt, ALIVE)
    said = sealed({"time": time.time(), ENDED_BY: run, "why": why})
    if seen.tag == NO_TAG:
        return store.put_once(key, said)
    return store.replace(key, said, seen.tag) is not None


class Watch:
    """Notices leases whose holders are dead, by a `clock` that may stop as the machine sleeps."""

    def __init__(self, clock: Clock = time.monotonic, expires_after_s: float = EXPIRES_AFTER_S):
        self._clock = clock
        self._expires_after_s = expires_after_s
        self._first_seen: dict[str, tuple[int, str, float]] = {}

    def why_over(self, trial_id: str, seen: Seen) -> str:
        """Why a lease that has just been seen held is over; "" if it is not, as far as one knows.

        Call it again and again: only a lease that stays as it was is over.
        """
        if seen.holder is not None and is_gone(seen.holder.process):
            return f"its driver, process {seen.holder.process['pid']} of this machine, is gone"
        now = self._clock()
        attempt, tag, since = self._first_seen.get(trial_id, (0, NO_TAG, now))
        if (attempt, tag) != (seen.attempt, seen.tag):
            self._first_seen[trial_id] = seen.attempt, seen.tag, now
            return ""
        if now - since < self._expires_after_s:
            return ""
        return f"its lease was not renewed for {self._expires_after_s:.0f} s"


class Lease:
    """A lease that is held: an attempt's right to train its trial and to write what comes of it."""

    def __init__(
        self, store: Store, trial_id: str, attempt: int, began: float, clock: Clock
    ) -> None:
        self.attempt = attempt
        self._store = store
        self._trial = trial_id
        self._tag = NO_TAG
        self._renewals = 0
        self._clock = clock
        self._unanswered: bytes | None = None  # a renewal of which one does not know if it arrived
        self._renewed = began  # when the last renewal that succeeded was sent
        self._lost = ""
        self._one_at_a_time = threading.Lock()
        self._over = threading.Event()

    def keep(self) -> None:
        """Renew the lease from a thread of its own until `let_go`: no request may hold it up."""
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def let_go(self) -> None:
        """Renew it no more. It ends with the attempt's failure or the trial's result."""
        self._over.set()

    def check(self) -> None:
        """Raise Superseded if the lease is lost, or could not be renewed for STOPS_AFTER_S.

        Asks the store only in the latter case, as after the process was stopped for a while.
        """
        if not self._lost and self._clock() - self._renewed > STOPS_AFTER_S:
            if not self._one_at_a_time.acquire(timeout=WAITS_S):
                self._lost = f"the store has not answered for {STOPS_AFTER_S:.0f} s"
            else:
                self._one_at_a_time.release()
                try:
                    self.renew()
                except EnvironmentProblem as error:
                    self._lost = f"the store has not answered for {STOPS_AFTER_S:.0f} s: {error}"
        if self._lost:
            raise Superseded(f"attempt {self.attempt} of trial {self._trial} ends: {self._lost}")

    def renew(self) -> None:
        """Renew the lease now, as before anything that only its holder may write.

        Raises Superseded if it is lost, EnvironmentProblem if the store does not answer.
        """
        with self._one_at_a_time:
            sent = self._clock()
            if not self._lost and self._write():
                self._renewed = sent
                return
            self._lost = self._lost or "another run has found it silent and ended its lease"
        raise Superseded(f"attempt {self.attempt} of trial {self._trial} ends: {self._lost}")

    def _write(self) -> bool:
        key = attempt_key(self._trial, self.attempt, ALIVE)
        if self._unanswered is not None:
            self._tag = self._tag_of(key, self._unanswered) or self._tag
        self._renewals += 1
        content = sealed({"time": time.time(), "renewals": self._renewals})
        self._unanswered = content
        if self._tag != NO_TAG:
            tag = self._store.replace(key, content, self._tag)
        else:
            tag = self._tag_of(key, content) if self._store.put_once(key, content) else None
        self._unanswered = None
        self._tag = tag or self._tag
        return tag is not None

    def _tag_of(self, key: str, content: bytes) -> str | None:
        """The tag of the lease's file, if this is its content."""
        try:
            there, tag = self._store.get_tagged(key)
        except KeyError:
            return None
        return tag if there == content else None

    def _keep(self) -> None:
        while not self._over.wait(RENEW_EVERY_S):
            try:
                self.renew()
            except Superseded:
                return
            except EnvironmentProblem:  # the next renewal may reach the store; `check` counts
                continue
