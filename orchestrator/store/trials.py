"""The states of trials, as the store proves them; what cannot be checked is not believed.

    trials/<id>/spec.json, attempts/<n>/            orchestrator.store.attempts
    trials/<id>/attempts/<n>/journal/               orchestrator.store.journals
    trials/<id>/checkpoints/step-<n>-<attempt>/     orchestrator.store.checkpoints
    trials/<id>/probes/<probe>/                     orchestrator.store.arrays
    trials/<id>/result.json, evaluations/           orchestrator.store.results
    trials/<id>/freed.json                          orchestrator.store.freed

A trial whose result does not hold, or whose journal is damaged, is `damaged`. Other damaged files
are named, and the state is what the remaining files prove.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar, cast

from orchestrator.plan.outcomes import OF_MEMORY
from orchestrator.plan.states import State
from orchestrator.store import records
from orchestrator.store.arrays import CROPS, ArrayFile
from orchestrator.store.attempts import (
    Attempt,
    attempt_key,
    damaged_spec,
    failure_at,
    is_alive,
    is_recent,
    kept_spec,
    read_alive,
    read_attempt,
    read_start,
    recorded_specs,
)
from orchestrator.store.base import KEY, Store
from orchestrator.store.checkpoints import FinalFiles, damaged_checkpoints
from orchestrator.store.journals import READERS, SEGMENT, Event, JournalReader, Segment
from orchestrator.store.lines import Line
from orchestrator.store.listing import Listing, listed
from orchestrator.store.records import Damaged, Record, read_record
from orchestrator.store.results import check_result, result_key
from orchestrator.store.undefined import undefined_in
from trainers.spec import RunSpec

if TYPE_CHECKING:
    from orchestrator.store.columns import Columns
    from orchestrator.store.points import Points

J = TypeVar("J")
PASSED_OVER = ("older", "put aside")  # of trainers.checkpoint.Start.how


def trial_ids(store: Store) -> list[str]:
    """Every trial that the store knows."""
    found = {parts[1] for key in store.list("trials") if len(parts := key.split("/")) > 2}
    return sorted(trial for trial in found if KEY.fullmatch(trial))


@dataclass(frozen=True)
class Look:
    """A trial, as one listing of it shows it; `damaged` has the files that were skipped.

    A glance reads only what the state depends on. Only `look_at` reads everything, finds all
    damage, and fills `hindrances` and the fields below it.
    """

    trial: str
    state: State
    attempts: tuple[int, ...] = ()  # their numbers
    step: int = 0  # of the newest finished checkpoint
    result: Record | None = None  # None unless the files that it names are intact
    failure: Record | None = None  # the newest attempt's
    damaged: tuple[Damaged, ...] = ()
    hindrances: tuple[Damaged, ...] = ()  # damage that forbids training it further: decision 15
    note: str = ""  # on how the newest attempt began
    tried: tuple[Attempt, ...] = ()  # the attempts' undamaged records, oldest first
    trained: tuple[RunSpec, ...] = ()  # the specs that its attempts recorded
    evaluations: tuple[str, ...] = ()  # keys of its evaluations; these are not read
    undefined: Mapping[str, str] = field(
        default_factory=dict
    )  # why scalars of probes have no value
    ranks: tuple[Record, ...] = ()  # of all attempts: host, and what it computes on
    failures: tuple[Record, ...] = ()  # of all attempts that left one, each with `attempt`
    passed_over: tuple[tuple[int, str], ...] = ()  # attempts that could not use a checkpoint, why
    crops: tuple[ArrayFile, ...] = ()  # files of crops (trainers.crops); these are not read

    @property
    def has_ended(self) -> bool:
        return self.state.has_ended


def glance_at(store: Store, trial_id: str) -> Look:
    """Find a trial's state from its result or its newest attempt alone."""
    return glance(store, listed(store, trial_id))


def glance(
    store: Store,
    listing: Listing,
    *,
    heard: bool = False,
    checksums: Mapping[str, str] | None = None,
) -> Look:
    """Find a trial's state, given a listing of it.

    `heard`: the newest attempt is known to be alive, so its sign of life is not read. `checksums`:
    those of segments already read.
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
    state = _open_state(listing, said, heard)
    return replace(look, state=state, failure=said, damaged=damaged)


def _open_state(listing: Listing, failure: Record | None, is_heard: bool) -> State:
    """The state of a trial without a result, judged by its newest attempt."""
    if listing.newest == 0:
        return State.PENDING
    if listing.is_retried:
        return State.INTERRUPTED
    if failure is None:
        return State.RUNNING if is_heard else State.INTERRUPTED
    if not failure["final"]:
        return State.INTERRUPTED
    return State.INFEASIBLE if failure["kind"] in OF_MEMORY else State.FAILED


def look_at(store: Store, trial_id: str, *, verify: bool = False) -> Look:
    """Look at everything the store has of a trial; `verify` also reads its checkpoints through."""
    return _read_twice(store, trial_id, verify, _lines)[0]


def read_trial(
    store: Store, trial_id: str, *, verify: bool = False, events: list[Event] | None = None
) -> tuple[Look, Points]:
    """A full look at a trial, and its points: each (metric, step) once, incomplete if damaged.

    `events`, if given, receives the journal's events.
    """
    from orchestrator.store.points import Points  # numpy, which no look needs

    look, columns = _read_twice(store, trial_id, verify, _in_columns, events)
    return look, Points.of(columns)


Journals = list[tuple[Segment, Sequence[Line]]]


def _lines(reader: JournalReader, listing: Listing) -> Journals:
    return list(reader.new_lines(listing.segments, may_wait=False))


def _in_columns(reader: JournalReader, listing: Listing) -> list[tuple[int, Columns]]:
    """The lines of each segment with its attempt."""
    found = reader.new_columns(listing.segments, listing.copies)
    return [(segment.attempt, columns) for segment, columns in found]


def read_journals(store: Store, trial_id: str) -> tuple[Look, Journals]:
    """A full look at a trial, and the lines of its journals in the order of its attempts."""
    return _read_twice(store, trial_id, False, _lines)


def _read_twice(
    store: Store,
    trial_id: str,
    verify: bool,
    read: Callable[[JournalReader, Listing], J],
    events: list[Event] | None = None,
) -> tuple[Look, J]:
    """A look at a trial, and what `read` makes of its journals.

    Files come and go while a trial runs, so a listing may name a file that has just been deleted
    and miss one that has just arrived. Damage counts only if a second listing confirms it.
    """
    listing = listed(store, trial_id)
    look, journals, noted = _read(store, listing, verify, read)
    if look.damaged and (again := listed(store, trial_id)) != listing:
        look, journals, noted = _read(store, again, verify, read)
    if events is not None:
        events += noted
    return look, journals


def _hindrances(trial_id: str, damaged: Iterable[Damaged]) -> tuple[Damaged, ...]:
    """The damage that keeps a trial from being trained further."""
    written = (f"trials/{trial_id}/spec.json", result_key(trial_id))
    return tuple(
        p for p in damaged if SEGMENT.fullmatch(p.key) or (p.is_in_the_way and p.key in written)
    )


def _passed_over(
    listing: Listing, attempts: Sequence[_AttemptFiles]
) -> tuple[tuple[int, str], ...]:
    """The attempts that passed over damaged checkpoints, each with its note."""
    starts = (
        (number, found.start) for number, found in zip(listing.attempts, attempts, strict=True)
    )
    return tuple(
        (number, start["note"])
        for number, start in starts
        if isinstance(start, dict) and start["how"] in PASSED_OVER
    )


def _final_files(trial_id: str, result: Record) -> FinalFiles:
    checkpoint = result["checkpoint"]
    return f"trials/{trial_id}/checkpoints/{checkpoint['name']}", checkpoint["files"]


def _read(
    store: Store, listing: Listing, verify: bool, read: Callable[[JournalReader, Listing], J]
) -> tuple[Look, J, list[Event]]:
    trial_id = listing.trial
    events: list[Event] = []
    reader = JournalReader(store, events)
    journals = read(reader, listing)
    if listing.is_empty:
        return Look(trial_id, State.PENDING), journals, []
    attempts = [_AttemptFiles.read(store, listing, number) for number in listing.attempts]
    tried = tuple(found.record for found in attempts if isinstance(found.record, dict))
    result = None
    if listing.has_result:
        result = check_result(store, trial_id, verify=verify, checksums=reader.checksums)
    kept = kept_spec(store, trial_id) if f"trials/{trial_id}/spec.json" in listing.records else None
    final = _final_files(trial_id, result) if isinstance(result, dict) else None
    problems = [
        *reader.damaged,
        result,
        *(problem for found in attempts for problem in found.all),
        damaged_spec(trial_id, kept, tried),
        *damaged_checkpoints(store, listing.checkpoints, verify=verify, known=final),
    ]
    damaged = tuple({(p.key, p.why): p for p in problems if isinstance(p, Damaged)}.values())
    hindrances = _hindrances(trial_id, damaged)
    last = attempts[-1] if attempts else _AttemptFiles()
    failure = last.failure if isinstance(last.failure, dict) else None
    state = _open_state(listing, failure, is_recent(last.alive, last.record))
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
            listing.evaluations,
            undefined_in(events),
            tuple(rank for found in attempts for rank in found.rank_records),
            tuple(
                {**found.failure, "attempt": number}
                for number, found in zip(listing.attempts, attempts, strict=True)
                if isinstance(found.failure, dict)
            ),
            _passed_over(listing, attempts),
            tuple(file for file in listing.arrays if file.probe == CROPS),
        ),
        journals,
        events,
    )


@dataclass(frozen=True)
class _AttemptFiles:
    """The records of one attempt; None for those that were not written."""

    record: Record | Damaged | None = None
    failure: Record | Damaged | None = None
    start: Record | Damaged | None = None
    ranks: list[Record] | Damaged | None = None
    alive: Record | Damaged | None = None

    @classmethod
    def read(cls, store: Store, listing: Listing, number: int) -> _AttemptFiles:
        """Read the records that the listing has; a sign of life only of the newest attempt."""

        def there(file: str) -> bool:
            return attempt_key(listing.trial, number, file) in listing.records

        trial_id = listing.trial
        ranks = attempt_key(trial_id, number, "ranks.json")
        return cls(
            read_attempt(store, trial_id, number),
            failure_at(store, trial_id, number) if there("failure.json") else None,
            read_start(store, trial_id, number) if there("start.json") else None,
            cast(
                "list[Record] | Damaged | None",
                read_record(store, ranks, records.RANKS) if there("ranks.json") else None,
            ),
            read_alive(store, trial_id, number)
            if number == listing.newest and there("alive.json")
            else None,
        )

    @property
    def rank_records(self) -> list[Record]:
        return self.ranks if isinstance(self.ranks, list) else []

    @property
    def all(self) -> tuple[object, ...]:
        return self.record, self.failure, self.start, self.ranks, self.alive


def glances_at(store: Store, ids: Sequence[str]) -> dict[str, Look]:
    """Glance at each of these trials."""
    with ThreadPoolExecutor(READERS) as readers:
        return dict(
            zip(ids, readers.map(lambda trial_id: glance_at(store, trial_id), ids), strict=True)
        )


def looks_at(store: Store, ids: Sequence[str], *, verify: bool = False) -> dict[str, Look]:
    """Look at each of these trials."""
    with ThreadPoolExecutor(READERS) as readers:
        return dict(
            zip(
                ids,
                readers.map(lambda trial_id: look_at(store, trial_id, verify=verify), ids),
                strict=True,
            )
        )


def damage_in_words(looks: Iterable[Look]) -> list[str]:
    """A sentence for each damaged file of these trials."""
    return [f"damaged: {problem}" for look in looks for problem in look.damaged]
