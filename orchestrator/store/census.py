"""The states of very many trials: one listing of the store, and a read of what a state needs.

A full look (orchestrator.store.trials) reads everything that a trial has, its journals as well:
seconds for hundreds of trials, minutes for ten thousand. Here an ended trial costs the read of its
result: that the files which the result names are there, and its checkpoint's in their sizes, the
listing shows. A trial without a result costs the reads of a glance, and one that was tried again
two more for each attempt, for what was overcome. So damage inside a file is not found, which
`normsweep doctor` does.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from orchestrator.collecting import no_collecting
from orchestrator.hints import hint
from orchestrator.plan import Plan
from orchestrator.plan.states import State
from orchestrator.store import children, read_store
from orchestrator.store.attempts import (
    attempt_key,
    failure_at,
    numbers_among,
    read_attempt,
    read_start,
)
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import folders_among
from orchestrator.store.folder import FolderStore
from orchestrator.store.freed import freed_key
from orchestrator.store.journals import READERS
from orchestrator.store.listing import sorted_keys
from orchestrator.store.records import Damaged, Record
from orchestrator.store.results import result_key, stated_result, without_checkpoint
from orchestrator.store.trials import PASSED_OVER, Look, glance, looks_at

MANY = 1_000  # trials; fewer are looked at in full
AT_ONCE = 32  # trials that a thread takes, since handing one over costs as much as reading one
MANY_WAITS = 8  # of a thread that looks at so many trials

Sizes = Mapping[str, int]  # key -> bytes


def looks_at_plan(store_uri: str, plan: Plan) -> tuple[dict[str, Look], str]:
    """A full look at each trial, or of very many what a census shows, and a sentence that says so.

    The sentence is "" where everything was read. Only reads; a missing folder is an empty store.
    """
    store, ids = read_store(store_uri), [trial.id for trial in plan.trials]
    if len(ids) <= MANY:
        return looks_at(store, ids), ""
    return census(store, ids), (
        f"{len(ids):,} trials: only what their states depend on was read. "
        f"`{hint('doctor')}` reads everything."
    )


def census(store: Store, ids: Iterable[str]) -> dict[str, Look]:
    """The state of each of these trials. Raises EnvironmentProblem."""
    with no_collecting():
        looks = {trial_id: Look(trial_id, State.PENDING) for trial_id in ids}
        looks.update((look.trial, look) for look in _looks(store, list(looks)))
        return looks


def _looks(store: Store, ids: Sequence[str]) -> Iterator[Look]:
    """Look at those of these trials that have begun; of a folder, half in another process."""
    if not isinstance(store, FolderStore):
        begun: dict[str, dict[str, int]] = {trial_id: {} for trial_id in ids}
        for key, size in store.sizes("trials").items():
            if (files := begun.get(key.split("/", 2)[1])) is not None:
                files[key] = size
        yield from _looks_here(store, ids, begun)
        return
    there = store.below("trials")
    ids = [trial_id for trial_id in ids if trial_id in there]
    half = len(ids) // 2 if len(ids) >= MANY and children.is_cheap() else 0
    others = children.apart(_looks_here, store, ids[:half]) if half else list[Look]
    yield from _looks_here(store, ids[half:])
    yield from others()


def _looks_here(
    store: Store, trials: Sequence[str], begun: Mapping[str, Sizes] | None = None
) -> list[Look]:
    """Look at trials one by one, and at many at a time once the store keeps this thread waiting.

    A folder that the system holds in memory never does: there, threads would only wait for each
    other, which takes more of the processor than reading does. `begun`: the files of each, if they
    have been listed; a folder lists those of one trial as fast as it does among all others.
    """
    looks: list[Look] = []
    parts = iter([trials[i : i + AT_ONCE] for i in range(0, len(trials), AT_ONCE)])

    def look_at(part: Sequence[str]) -> list[Look]:
        listed = (
            (one, store.sizes(f"trials/{one}") if begun is None else begun[one]) for one in part
        )
        return [_look(store, one, files) for one, files in listed if files]

    for part in parts:
        before = _waits()
        looks += look_at(part)
        if _waits() - before >= MANY_WAITS:
            break
    with ThreadPoolExecutor(READERS) as readers:
        for found in readers.map(look_at, parts):
            looks += found
    return looks


def _waits() -> int:
    """How often this thread has given up its processor to wait for something."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nvcsw


def _look(store: Store, trial_id: str, files: Sizes) -> Look:
    look = _state(store, trial_id, files)
    return _with_troubles(store, look, files) if look.attempts else look


def _with_troubles(store: Store, look: Look, files: Sizes) -> Look:
    """With the failures of earlier attempts, and the checkpoints that later ones passed over."""
    *earlier, newest = look.attempts
    failures = [
        {**failure, "attempt": number}
        for number in earlier
        if attempt_key(look.trial, number, "failure.json") in files
        and isinstance(failure := failure_at(store, look.trial, number), dict)
    ]
    failures += [{**look.failure, "attempt": newest}] if look.failure is not None else []
    passed_over = [
        (number, start["note"])
        for number in look.attempts[1:]
        if attempt_key(look.trial, number, "start.json") in files
        and isinstance(start := read_start(store, look.trial, number), dict)
        and start["how"] in PASSED_OVER
    ]
    return replace(look, failures=tuple(failures), passed_over=tuple(passed_over))


def _state(store: Store, trial_id: str, files: Sizes) -> Look:
    if result_key(trial_id) in files:
        attempts, step = tuple(numbers_among(files)), _last_step(trial_id, files)
        result = stated_result(store, trial_id)
        if isinstance(result, dict):
            result = _checked(store, trial_id, result, files)
        if isinstance(result, Damaged):
            return Look(trial_id, State.DAMAGED, attempts, step, damaged=(result,))
        if result is not None:
            return Look(trial_id, State.of_outcome(result["outcome"]), attempts, step, result)
    listing = sorted_keys(trial_id, files)
    look = glance(store, replace(listing, records=listing.records - {result_key(trial_id)}))
    if look.state == State.RUNNING:  # `status` says on which host
        attempt = read_attempt(store, trial_id, listing.newest)
        look = replace(look, tried=(attempt,) if isinstance(attempt, dict) else ())
    if attempt_key(trial_id, listing.newest, "start.json") not in listing.records:
        return look
    start = read_start(store, trial_id, listing.newest)
    return replace(look, note=start["note"]) if isinstance(start, dict) else look


def _last_step(trial_id: str, files: Sizes) -> int:
    """The step of the last finished checkpoint."""
    sealed = (folder.step for folder in folders_among(trial_id, files) if folder.is_sealed)
    return max(sealed, default=0)


def _checked(store: Store, trial_id: str, result: Record, files: Sizes) -> Record | Damaged:
    """The result, if all that it names is there, or its checkpoint was removed on purpose."""
    for segment in result["journal"]:
        if segment not in files:
            return Damaged(segment, "is missing")
    problem = _missing(trial_id, result, files)
    if problem is not None and freed_key(trial_id) in files:
        return without_checkpoint(store, result, problem)
    return problem or result


def _missing(trial_id: str, result: Record, files: Sizes) -> Damaged | None:
    """The first file of the result's checkpoint that is not there, or has another size."""
    checkpoint = result["checkpoint"]
    for name, promised in checkpoint["files"].items():
        key = f"trials/{trial_id}/checkpoints/{checkpoint['name']}/{name}"
        if key not in files:
            return Damaged(key, "is missing")
        if files[key] != promised["bytes"]:
            return Damaged(key, f"has {files[key]} bytes, not {promised['bytes']}")
    return None
