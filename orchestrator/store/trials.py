"""Trials as the store has them: what was written is looked at once, and nothing of it is believed that cannot be checked.

    trials/<id>/spec.json, attempts/<n>/            orchestrator.store.attempts
    trials/<id>/attempts/<n>/journal/               orchestrator.store.journals
    trials/<id>/checkpoints/step-<n>-<attempt>/     orchestrator.store.checkpoints
    trials/<id>/result.json                         last of all
    trials/<id>/evaluations/<name>.json             of the final weights, made afterwards by `normsweep evaluate`

A trial has ended if and only if its result is there and its checksums hold. One that has a result that does not hold, or
whose journal is damaged, is `damaged`. Other damaged files are named, and the state is what the rest proves.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan
from orchestrator.plan.states import State
from orchestrator.store import read_store, records
from orchestrator.store.attempts import (
    Attempt,
    attempt_key,
    check_newest,
    damaged_spec,
    failure_at,
    is_alive,
    is_recent,
    kept_spec,
    read_alive,
    read_attempt,
    read_attempts,
    read_start,
    recorded_specs,
    spec_of,
)
from orchestrator.store.base import KEY, Store
from orchestrator.store.checkpoints import checkpoint_prefix, damaged_checkpoints, damaged_file, read_manifest
from orchestrator.store.journals import (
    DIGEST_DIGITS,
    READERS,
    SEGMENT,
    Event,
    JournalReader,
    Point,
    join_segments,
    segments,
)
from orchestrator.store.listing import Listing, listed
from orchestrator.store.records import OUT_OF_MEMORY, Damaged, Record, read_bytes, read_record, sealed
from trainers.spec import RunSpec


def trial_ids(store: Store) -> list[str]:
    """Every trial that the store knows."""
    found = {parts[1] for key in store.list("trials") if len(parts := key.split("/")) > 2}
    return sorted(trial for trial in found if KEY.fullmatch(trial))


# --- results ----------------------------------------------------------------------------------------------------------


def write_result(
    store: Store, trial_id: str, attempt: int, *, sweep: str, step: int, outcome: str, metrics: Mapping[str, Any]
) -> None:
    """End the trial with its newest checkpoint and its whole journal, each attempt's joined into one segment.

    A kill in between leaves segments twice, joined and single, which readers know; the result is there or it is not. Raises
    Superseded.
    """
    check_newest(store, trial_id, attempt)
    prefix = checkpoint_prefix(trial_id, step, attempt)
    manifest = read_manifest(store, prefix)
    if not isinstance(manifest, dict):
        raise EnvironmentProblem(
            f"{manifest or f'{prefix}/manifest.json is missing'}: trial {trial_id} cannot end with it."
        )
    journal = join_segments(store, trial_id, segments(store, trial_id))
    check_newest(store, trial_id, attempt)  # joining thousands of segments takes a while
    result = {
        "trial": trial_id,
        "sweep": sweep,
        "attempt": attempt,
        "outcome": outcome,
        "step": step,
        "ended": time.time(),
        "metrics": dict(metrics),
        "checkpoint": {"name": prefix.rpartition("/")[2], "files": manifest["files"]},
        "journal": journal.segments,
    }
    store.put(_result_key(trial_id), sealed(result))
    # The trial has ended, also where the store fails now: what stays of single segments is passed over.
    with suppress(EnvironmentProblem), ThreadPoolExecutor(READERS) as writers:
        list(writers.map(store.delete, journal.superseded))


def _result_key(trial_id: str) -> str:
    return f"trials/{trial_id}/result.json"


def stated_result(store: Store, trial_id: str) -> Record | Damaged | None:
    """The result as it was written, whether or not what it promises is there. None where there is none."""
    key = _result_key(trial_id)
    result = read_record(store, key, records.RESULT)
    if not isinstance(result, dict):
        return result
    if records.CHECKSUM not in result:
        return Damaged(key, f"lacks its {records.CHECKSUM}")
    if result["trial"] != trial_id:
        return Damaged(key, f"is of trial {result['trial']}")
    return result


def check_result(
    store: Store, trial_id: str, *, verify: bool = False, checksums: Mapping[str, str] | None = None
) -> Record | Damaged | None:
    """The result with what it promises; `verify` also reads the final checkpoint through. None where there is none.

    `checksums`: of segments that have just been read.
    """
    result = stated_result(store, trial_id)
    if not isinstance(result, dict):
        return result
    for segment, sha256 in result["journal"].items():
        if problem := _damaged_segment(store, segment, sha256, (checksums or {}).get(segment)):
            return problem
    checkpoint = result["checkpoint"]
    prefix = f"trials/{trial_id}/checkpoints/{checkpoint['name']}"
    return damaged_file(store, prefix, checkpoint["files"], verify=verify) or result


def _damaged_segment(store: Store, key: str, sha256: str, found: str | None) -> Damaged | None:
    """`found`: the checksum that the segment was found to have, where it has been read."""
    if not found:
        content = read_bytes(store, key)
        if not isinstance(content, bytes):
            return content or Damaged(key, "is missing")
        found = hashlib.sha256(content).hexdigest()
    match = SEGMENT.fullmatch(key)
    if found != sha256 or (match and match["digest"] not in (None, found[:DIGEST_DIGITS])):
        return Damaged(key, "does not have the checksum that was recorded for it")
    return None


def read_result(store: Store, trial_id: str, *, verify: bool = False) -> Record | None:
    """The result, where it is there and intact; `verify` also reads the final checkpoint through."""
    result = check_result(store, trial_id, verify=verify)
    return result if isinstance(result, dict) else None


def trained_spec(store: Store, trial_id: str, attempt: int) -> RunSpec:
    """The spec with which an attempt trained. Raises EnvironmentProblem where the store does not have it any more."""
    found = read_attempt(store, trial_id, attempt)
    spec = spec_of(found) if isinstance(found, dict) else None
    if spec is not None:
        return spec
    kept = kept_spec(store, trial_id)
    problem = damaged_spec(trial_id, kept, read_attempts(store, trial_id))
    if problem is not None or not isinstance(kept, RunSpec):
        raise EnvironmentProblem(f"{problem or kept}. Put it back from a copy, or run the trial's sweep again.")
    return kept


def write_evaluation(store: Store, trial_id: str, name: str, evaluation: Mapping[str, Any]) -> None:
    """Keep what an evaluation of the trial's final weights gave; one of the same name is replaced."""
    store.put(f"trials/{trial_id}/evaluations/{name}.json", sealed(evaluation))


# --- states -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What was found of one trial at one moment, by one listing of it; `damaged` names everything that was passed over.

    Beside a glance, which reads only what the state needs, there is the look at everything (`look_at`), which alone can name
    all damage and fills the last five fields.
    """

    trial: str
    state: State
    attempts: tuple[int, ...] = ()  # their numbers
    step: int = 0  # of the newest checkpoint that was finished
    result: Record | None = None  # where it is there and holds
    failure: Record | None = None  # why the newest attempt ended without a result, where it said so
    damaged: tuple[Damaged, ...] = ()
    hindrances: tuple[Damaged, ...] = ()  # for which it must not be trained on: see decision 15
    note: str = ""  # on how the newest attempt began
    tried: tuple[Attempt, ...] = ()  # the records of the attempts that are undamaged, oldest first
    trained: tuple[RunSpec, ...] = ()  # the specs that it was trained with, by its own record

    @property
    def has_ended(self) -> bool:
        return self.state.has_ended


def glance_at(store: Store, trial_id: str) -> Look:
    """What a trial is, by its result or its newest attempt alone. Nothing is read of one that is pending."""
    return glance(store, listed(store, trial_id))


def glance(store: Store, listing: Listing, *, heard: bool = False, checksums: Mapping[str, str] | None = None) -> Look:
    """What a trial is, by a listing that was made.

    `heard`: its newest attempt has just given a sign of life, and none is looked for. `checksums`: of segments that have just
    been read.
    """
    look = Look(listing.trial, State.PENDING, listing.attempts, listing.step)
    if listing.has_result:
        result = check_result(store, listing.trial, checksums=checksums)
        if isinstance(result, Damaged):
            return replace(look, state=State.DAMAGED, damaged=(result,))
        if result is not None:
            return replace(look, state=State.of_outcome(result["outcome"]), result=result)
    newest = listing.newest
    failure = None
    if attempt_key(listing.trial, newest, "failure.json") in listing.records:
        failure = failure_at(store, listing.trial, newest)
    if newest and not isinstance(failure, dict):
        heard = heard or is_alive(store, listing.trial, newest)
    damaged = (failure,) if isinstance(failure, Damaged) else ()
    said = failure if isinstance(failure, dict) else None
    return replace(look, state=_open_state(newest, said, heard), failure=said, damaged=damaged)


def _open_state(newest: int, failure: Record | None, is_heard: bool) -> State:
    """Of a trial without a result, by its newest attempt."""
    if newest == 0:
        return State.PENDING
    if failure is None:
        return State.RUNNING if is_heard else State.INTERRUPTED
    if not failure["final"]:
        return State.INTERRUPTED
    return State.INFEASIBLE if failure["kind"] == OUT_OF_MEMORY else State.FAILED


def look_at(store: Store, trial_id: str, *, verify: bool = False) -> Look:
    """Look at everything that the store has of a trial; `verify` also reads its checkpoints through."""
    return read_trial(store, trial_id, verify=verify)[0]


def read_trial(
    store: Store, trial_id: str, *, verify: bool = False, events: list[Event] | None = None
) -> tuple[Look, list[Point]]:
    """Everything that the store has of a trial, and every (metric, step) of it once: where its journal is damaged, not all.

    What seems damaged counts when it is so by a second listing: one that was made while segments arrive or are joined, or
    while checkpoints are discarded, may have what is gone by now, and lack what is there. `events`, if given, receives the
    journal's events.
    """
    listing = listed(store, trial_id)
    look, points, noted = _read(store, listing, verify)
    if look.damaged and (again := listed(store, trial_id)) != listing:
        look, points, noted = _read(store, again, verify)
    if events is not None:
        events += noted
    return look, points


def _read(store: Store, listing: Listing, verify: bool) -> tuple[Look, list[Point], list[Event]]:
    trial_id, newest = listing.trial, listing.newest
    if listing.is_empty:
        return Look(trial_id, State.PENDING), [], []
    events: list[Event] = []
    reader = JournalReader(store, events)
    points = list(reader.new_points(listing.segments, may_wait=False))
    attempts = [_AttemptFiles.read(store, listing, number) for number in listing.attempts]
    tried = tuple(found.record for found in attempts if isinstance(found.record, dict))
    result = None
    if listing.has_result:
        result = check_result(store, trial_id, verify=verify, checksums=reader.checksums)
    kept = kept_spec(store, trial_id) if f"trials/{trial_id}/spec.json" in listing.records else None
    final = None
    if isinstance(result, dict):
        final = (f"trials/{trial_id}/checkpoints/{result['checkpoint']['name']}", result["checkpoint"]["files"])
    problems = [
        *reader.damaged,
        result,
        *(problem for found in attempts for problem in found.all),
        damaged_spec(trial_id, kept, tried),
        *damaged_checkpoints(store, listing.checkpoints, verify=verify, known=final),
    ]
    damaged = tuple({(p.key, p.why): p for p in problems if isinstance(p, Damaged)}.values())
    written = (f"trials/{trial_id}/spec.json", _result_key(trial_id))
    hindrances = tuple(p for p in damaged if SEGMENT.fullmatch(p.key) or (p.is_in_the_way and p.key in written))
    last = attempts[-1] if attempts else _AttemptFiles()
    failure = last.failure if isinstance(last.failure, dict) else None
    state = _open_state(newest, failure, is_recent(last.alive, last.record))
    if isinstance(result, dict):
        state = State.of_outcome(result["outcome"])
    return (
        Look(
            trial_id,
            State.DAMAGED if hindrances or isinstance(result, Damaged) else state,
            listing.attempts,
            listing.step,
            result if isinstance(result, dict) else None,
            failure,
            damaged,
            hindrances,
            last.start["note"] if isinstance(last.start, dict) else "",
            tried,
            recorded_specs(kept, tried),
        ),
        points,
        events,
    )


@dataclass(frozen=True)
class _AttemptFiles:
    """The records of one attempt; those that were not written are None."""

    record: Record | Damaged | None = None
    failure: Record | Damaged | None = None
    start: Record | Damaged | None = None
    ranks: Record | Damaged | None = None
    alive: Record | Damaged | None = None

    @classmethod
    def read(cls, store: Store, listing: Listing, number: int) -> _AttemptFiles:
        """What is there of an attempt's; only the newest one's sign of life is looked at."""

        def there(file: str) -> bool:
            return attempt_key(listing.trial, number, file) in listing.records

        trial_id = listing.trial
        ranks = attempt_key(trial_id, number, "ranks.json")
        return cls(
            read_attempt(store, trial_id, number),
            failure_at(store, trial_id, number) if there("failure.json") else None,
            read_start(store, trial_id, number) if there("start.json") else None,
            read_record(store, ranks, records.RANKS) if there("ranks.json") else None,
            read_alive(store, trial_id, number) if number == listing.newest and there("alive.json") else None,
        )

    @property
    def all(self) -> tuple[Record | Damaged | None, ...]:
        return self.record, self.failure, self.start, self.ranks, self.alive


def glances_at(store: Store, ids: Sequence[str]) -> dict[str, Look]:
    """What each of these trials is."""
    with ThreadPoolExecutor(READERS) as readers:
        return dict(zip(ids, readers.map(lambda trial_id: glance_at(store, trial_id), ids), strict=True))


def looks_at(store: Store, ids: Sequence[str], *, verify: bool = False) -> dict[str, Look]:
    """Look at each of these trials."""
    with ThreadPoolExecutor(READERS) as readers:
        return dict(zip(ids, readers.map(lambda trial_id: look_at(store, trial_id, verify=verify), ids), strict=True))


def looks_at_plan(store_uri: str, plan: Plan) -> dict[str, Look]:
    """Look at each trial of a plan. Reads only: a folder that is not there holds nothing."""
    return looks_at(read_store(store_uri), [trial.id for trial in plan.trials])


def damage_in_words(looks: Iterable[Look]) -> list[str]:
    """A sentence for each damaged file of these trials."""
    return [f"damaged: {problem}" for look in looks for problem in look.damaged]
