"""A trial's attempts: begun exclusively, alive or silent, ended by a failure or by a result.

trials/<id>/spec.json
trials/<id>/attempts/<n>/attempt.json     made exclusively: host, time, versions, the spec it trains
trials/<id>/attempts/<n>/ranks.json       the host of each rank, and what it computes on
trials/<id>/attempts/<n>/start.json       how it began: anew, or from which checkpoint
trials/<id>/attempts/<n>/alive.json       its lease (orchestrator.store.leases), renewed as it runs
trials/<id>/attempts/<n>/failure.json     why it ended without a result
trials/<id>/attempts/<n>/log/rank-<r>.log the end of a rank's output, of an attempt that failed
trials/<id>/attempts/<n>/retry.json       made by `normsweep retry`: its end was not the trial's
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from orchestrator.plan import Trial
from orchestrator.plan.identity import BadSource, identity
from orchestrator.store import records
from orchestrator.store.base import Store
from orchestrator.store.records import Damaged, Record, encoded, read_bytes, read_record, sealed
from trainers.spec import BadSpec, RunSpec

ALIVE_EVERY_S = 10.0
SILENT_AFTER_S = 60.0  # an attempt without a sign of life for this long has stopped running
# Hosts' clocks may differ, so a sign of life may come from the future; further ahead it is ignored.
CLOCKS_DIFFER_S = 3_600.0
# A checkpoint's folder names its attempt too, and may be the only trace that is left of it.
ATTEMPT_NUMBER = re.compile(
    r"trials/[^/]+/(?:attempts/([1-9]\d{0,8})(?:/|$)|checkpoints/step-\d+-([1-9]\d{0,8})/)"
)

RETRY = "retry.json"
FAILURE_DETAILS = ("attempt", "host", "rank", "reached", "log", "traceback")
ALIVE = "alive.json"
ENDED_BY = "ended_by"  # in a last sign of life: the run that found the attempt's holder dead
Attempt = Record


class Superseded(Exception):
    """A newer attempt at the same trial has begun, so this one must end and write nothing more."""


def attempt_key(trial_id: str, attempt: int, file: str) -> str:
    return f"trials/{trial_id}/attempts/{attempt}/{file}"


def log_key(trial_id: str, attempt: int, rank: int) -> str:
    return attempt_key(trial_id, attempt, f"log/rank-{rank}.log")


def new_attempt(store: Store, trial: Trial, info: Mapping[str, Any]) -> int:
    """Begin the next attempt and return its number; two callers never get the same one.

    It supersedes one that runs: orchestrator.store.leases waits for its end.
    """
    number = newest_attempt(store, trial.id) + 1
    while not begin_attempt(store, trial, number, info):  # another caller took the number first
        number += 1
    return number


def begin_attempt(store: Store, trial: Trial, number: int, info: Mapping[str, Any]) -> bool:
    """Begin an attempt with this number, unless there is one: True for exactly one caller.

    `info` is stored as it is, so it must not hold secrets.
    """
    spec = trial.spec.to_json().encode()
    # A damaged spec.json can be made again, so it is (decision 15).
    if not store.put_once(f"trials/{trial.id}/spec.json", spec) and isinstance(
        kept_spec(store, trial.id), Damaged
    ):
        store.put(f"trials/{trial.id}/spec.json", spec)
    record = {
        "attempt": number,
        "started": time.time(),
        "spec": trial.spec.model_dump(mode="json"),
        **_identity(trial.spec),
        **info,
    }
    return store.put_once(attempt_key(trial.id, number, "attempt.json"), sealed(record))


def _identity(spec: RunSpec) -> dict[str, Any]:
    """The values that the trial's id is made of, so that a later change of one can be named.

    Empty where the source of a class from outside the project cannot be read here.
    """
    try:
        return {"identity": identity(spec)}
    except (ModuleNotFoundError, BadSource):
        return {}


def attempt_numbers(store: Store, trial_id: str) -> list[int]:
    """The numbers of all attempts that left a trace.

    An attempt whose attempt.json is lost still counts, so its number is never given out again.
    """
    return numbers_among(store.list(f"trials/{trial_id}"))


def numbers_among(keys: Iterable[str]) -> list[int]:
    """The numbers of all attempts that left a trace among a trial's keys."""
    found = (ATTEMPT_NUMBER.match(key) for key in keys)
    return sorted({int(match[1] or match[2]) for match in found if match})


def newest_attempt(store: Store, trial_id: str) -> int:
    """The number of the newest attempt; 0 if there is none."""
    return max(attempt_numbers(store, trial_id), default=0)


def check_newest(store: Store, trial_id: str, attempt: int) -> None:
    """The fence before a manifest or a result is written.

    Raises Superseded if `attempt` is not the newest.
    """
    newest = newest_attempt(store, trial_id)
    if newest != attempt:
        raise Superseded(f"attempt {newest} of trial {trial_id} has begun; attempt {attempt} ends")


def read_attempt(store: Store, trial_id: str, attempt: int) -> Attempt | Damaged:
    """An attempt's record."""
    key = attempt_key(trial_id, attempt, "attempt.json")
    found = read_record(store, key, records.ATTEMPT)
    if found is None:
        return Damaged(key, "is missing")
    if not isinstance(found, Damaged) and found["attempt"] != attempt:
        return Damaged(key, f"belongs to attempt {found['attempt']}")
    return found


def read_attempts(
    store: Store, trial_id: str, numbers: Iterable[int] | None = None
) -> list[Attempt]:
    """The undamaged records of the attempts with these numbers (default: all), oldest first."""
    numbers = attempt_numbers(store, trial_id) if numbers is None else numbers
    found = (read_attempt(store, trial_id, number) for number in numbers)
    return [attempt for attempt in found if not isinstance(attempt, Damaged)]


def write_ranks(
    store: Store, trial_id: str, attempt: int, ranks: Sequence[Mapping[str, Any]]
) -> None:
    """Record the host of each rank of an attempt, and what it computes on."""
    store.put_once(attempt_key(trial_id, attempt, "ranks.json"), encoded(list(ranks)))


def write_start(
    store: Store, trial_id: str, attempt: int, *, step: int, how: str, note: str = ""
) -> None:
    """Record how an attempt began.

    `step`: the step at which it began; `how`: one word (`anew`, `resumed`, `converted`); `note`: a
    sentence for people.
    """
    record = {"step": step, "how": how, "note": note}
    store.put(attempt_key(trial_id, attempt, "start.json"), sealed(record))


def read_start(store: Store, trial_id: str, attempt: int) -> Record | Damaged | None:
    """How an attempt began; None if it did not record it."""
    return read_record(store, attempt_key(trial_id, attempt, "start.json"), records.START)


def say_alive(store: Store, trial_id: str, attempt: int) -> None:
    """Renew the attempt's sign of life; call every ALIVE_EVERY_S."""
    store.put(attempt_key(trial_id, attempt, ALIVE), sealed({"time": time.time()}))


def read_alive(store: Store, trial_id: str, attempt: int) -> Record | Damaged | None:
    """An attempt's last sign of life."""
    return read_record(store, attempt_key(trial_id, attempt, ALIVE), records.ALIVE)


def is_alive(store: Store, trial_id: str, attempt: int) -> bool:
    """Whether an attempt has given a sign of life lately.

    A damaged sign of life does not count: the next one replaces it.
    """
    alive = read_alive(store, trial_id, attempt)
    return is_recent(alive, read_attempt(store, trial_id, attempt) if alive is None else None)


def is_recent(alive: Record | Damaged | None, begun: Attempt | Damaged | None) -> bool:
    """Whether the last sign of life is recent; without one, whether the attempt has just begun.

    Clocks are compared, so this is for people. Which run may train, orchestrator.store.leases says.
    """
    if isinstance(alive, dict) and ENDED_BY in alive:
        return False
    sign = alive["time"] if isinstance(alive, dict) else None
    if alive is None and isinstance(begun, dict):
        sign = begun["started"]
    return sign is not None and -CLOCKS_DIFFER_S < time.time() - sign < SILENT_AFTER_S


def write_failure(
    store: Store,
    trial_id: str,
    attempt: int,
    kind: str,
    message: str,
    *,
    final: bool,
    step: int = 0,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Record why an attempt ended without a result, and the step of its last checkpoint.

    `final`: trying again unchanged cannot help. `more`: fields of FailureRecord beside these.
    """
    said = {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in {"message": message, **(more or {})}.items()
    }  # half a surrogate pair cannot be stored
    record = {**said, "kind": kind, "final": final, "step": step, "time": time.time()}
    store.put(attempt_key(trial_id, attempt, "failure.json"), sealed(record))


def give_up(store: Store, trial_id: str, message: str, *, run: str) -> None:
    """Record that a run has used up a trial's retries, on its newest attempt.

    If that is another run's, or there is none, nothing is recorded.
    """
    attempt = newest_attempt(store, trial_id)
    begun = read_attempt(store, trial_id, attempt) if attempt else None
    if isinstance(begun, dict) and begun.get("run", "") == run:
        said = failure_at(store, trial_id, attempt)
        failure: Record = (
            said if isinstance(said, dict) else {"kind": "unknown", "message": message, "step": 0}
        )
        more = {name: failure[name] for name in FAILURE_DETAILS if name in failure}
        kind, said, step = failure["kind"], failure["message"], failure["step"]
        write_failure(store, trial_id, attempt, kind, said, final=True, step=step, more=more)


def write_retry(store: Store, trial_id: str, attempt: int) -> None:
    """Record that a trial is to be tried again, however its newest attempt ended."""
    store.put_once(attempt_key(trial_id, attempt, RETRY), sealed({"time": time.time()}))


def failure_at(store: Store, trial_id: str, attempt: int) -> Record | Damaged | None:
    """Why an attempt ended without a result; None if it recorded no failure."""
    found = read_record(store, attempt_key(trial_id, attempt, "failure.json"), records.FAILURE)
    return {"step": 0, **found} if isinstance(found, dict) else found


def read_failures(store: Store, trial_id: str, attempts: Iterable[int]) -> list[Record]:
    """The intact failure records among those of these attempts."""
    found = (failure_at(store, trial_id, attempt) for attempt in attempts)
    return [failure for failure in found if isinstance(failure, dict)]


def read_failed_attempts(store: Store, trial_id: str, kind: str) -> list[tuple[Attempt, Record]]:
    """The attempts that ended with this kind of failure, each with its failure; oldest first."""
    found = []
    for number in attempt_numbers(store, trial_id):
        attempt, failure = (
            read_attempt(store, trial_id, number),
            failure_at(store, trial_id, number),
        )
        if isinstance(attempt, dict) and isinstance(failure, dict) and failure["kind"] == kind:
            found.append((attempt, failure))
    return found


# --- what was trained -----------------------------------------------------------------------------


def kept_spec(store: Store, trial_id: str) -> RunSpec | Damaged | None:
    """The spec of a trial's first attempt, from spec.json; None if there is none."""
    key = f"trials/{trial_id}/spec.json"
    content = read_bytes(store, key)
    if not isinstance(content, bytes):
        return content
    with suppress(ValueError, RecursionError):  # the attempts recorded the same, in other words
        if (found := _parsed(json.dumps(json.loads(content.decode()), sort_keys=True))) is not None:
            return found
    try:
        return RunSpec.from_json(content.decode())
    except (BadSpec, UnicodeDecodeError) as error:
        return Damaged(key, f"is not a spec of this version: {str(error).splitlines()[0][:200]}")


def spec_of(attempt: Attempt) -> RunSpec | None:
    """The spec that an attempt trained.

    None if the attempt is an older version's and recorded none, or if this version cannot read it.
    """
    if not attempt.get("spec"):
        return None
    return _parsed(json.dumps(attempt["spec"], sort_keys=True))


@lru_cache(maxsize=16)  # one trial's attempts nearly always have the same spec
def _parsed(text: str) -> RunSpec | None:
    try:
        return RunSpec.from_json(text)
    except BadSpec:
        return None


def recorded_specs(
    kept: RunSpec | Damaged | None, attempts: Sequence[Attempt]
) -> tuple[RunSpec, ...]:
    """The specs that a trial's attempts recorded, without repetitions, oldest first.

    `kept`, the content of spec.json, stands in for attempts that recorded none.
    """
    found = [spec for attempt in attempts if (spec := spec_of(attempt)) is not None]
    if (len(found) < len(attempts) or not attempts) and isinstance(kept, RunSpec):
        found = [kept, *found]
    return tuple({spec.to_json(): spec for spec in found}.values() if len(found) > 1 else found)


def damaged_spec(
    trial_id: str, kept: RunSpec | Damaged | None, attempts: Iterable[Attempt]
) -> Damaged | None:
    """The damage to spec.json, if any.

    It must be a spec, and equal to what the attempts trained in all that can change the weights.
    """
    if not isinstance(kept, RunSpec):
        return kept or Damaged(f"trials/{trial_id}/spec.json", "is missing")
    trained = (spec for attempt in attempts if (spec := spec_of(attempt)) is not None)
    others = (spec for spec in trained if spec != kept)
    if any(_what_is_trained(spec) != _what_is_trained(kept) for spec in others):
        return Damaged(f"trials/{trial_id}/spec.json", "is not the spec that the attempts trained")
    return None


def _what_is_trained(spec: RunSpec) -> tuple[Any, ...]:
    return (
        spec.model,
        spec.task,
        spec.data.train_sha256,
        spec.training.model_copy(update={"initial_strict": True}),
    )
