"""All damage in a store, for `normsweep doctor`: reads every file through and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import TypeAdapter

from orchestrator.store import records
from orchestrator.store.attempts import read_alive
from orchestrator.store.base import KEY, Store, Unreadable
from orchestrator.store.checkpoints import folders
from orchestrator.store.columns import is_intact
from orchestrator.store.journals import READERS
from orchestrator.store.listing import listed
from orchestrator.store.records import Damaged, read_bytes, read_record
from orchestrator.store.trials import look_at, trial_ids
from orchestrator.store.verdicts import VERDICT_FILE, read_verdict

# These match up to the file's name, so that a folder in the file's place is found as well.
EVALUATION = re.compile(r"trials/[^/]+/evaluations/[^/]+\.json(?=/|$)")
SWEEP_FILE = re.compile(r"sweeps/[^/]+/file\.json(?=/|$)")
JOB = re.compile(r"jobs/[^/]+\.json(?=/|$)")
INITIAL = re.compile(r"initial/([0-9a-f]{64})\.[a-z]+(?=/|$)")
INITIAL_NAMES = re.compile(r"initial/of/[^/]+\.json(?=/|$)")


def survey(store: Store) -> list[Damaged]:
    """Every damaged file of the store, sorted by key.

    Raises EnvironmentProblem if the store cannot be read.
    """
    with ThreadPoolExecutor(READERS) as readers:
        in_trials = readers.map(lambda trial: list(_in_trial(store, trial)), trial_ids(store))
        found = [
            *_beside_trials(store),
            *(problem for problems in in_trials for problem in problems),
        ]
    return sorted(
        {(problem.key, problem.why): problem for problem in found}.values(),
        key=lambda problem: problem.key,
    )


def unfinished(store: Store) -> list[str]:
    """Checkpoints without a manifest.

    They are not damage: a kill leaves one, and the trial's next attempt clears it.
    """
    found = (folder for trial in trial_ids(store) for folder in folders(store, trial))
    return [folder.prefix for folder in found if not folder.is_sealed]


def _in_trial(store: Store, trial_id: str) -> Iterator[Damaged]:
    look = look_at(store, trial_id, verify=True)
    yield from look.damaged
    for number in look.attempts:  # look_at reads the newest attempt's sign of life alone
        alive = read_alive(store, trial_id, number)
        if isinstance(alive, Damaged):
            yield alive
    for key in look.evaluations:
        yield from _record(store, key, EVALUATION, records.EVALUATION)
    for key in sorted(listed(store, trial_id).copies):
        copy = read_bytes(store, key)
        if isinstance(copy, Damaged):
            yield copy
        elif copy is not None and not is_intact(copy):
            yield Damaged(key, "does not have its checksum; the journal beside it is read instead")


def _beside_trials(store: Store) -> Iterator[Damaged]:
    for key in store.list("jobs"):
        yield from _record(store, key, JOB, records.OUTCOME)
    for key in store.list("sweeps"):
        yield from _record(store, key, SWEEP_FILE, records.SWEEP_FILE)
    for key in store.list("regressions"):
        if (match := VERDICT_FILE.match(key)) and KEY.fullmatch(match[0]):
            found = read_verdict(store, match[1], match[2])
            if isinstance(found, Damaged):
                yield found
    for key in store.list("initial"):
        yield from _record(store, key, INITIAL_NAMES, records.NAMES)
        if match := INITIAL.match(key):
            try:
                if store.sha256(match[0]) != match[1]:
                    yield Damaged(match[0], "does not have the checksum in its name")
            except Unreadable as error:
                yield Damaged(match[0], error.why)
            except KeyError:  # deleted in between
                continue


def _record(
    store: Store, key: str, pattern: re.Pattern[str], shape: TypeAdapter[Any]
) -> Iterator[Damaged]:
    """The damage to a record, if any. Keys that do not match `pattern` are not ours."""
    if (match := pattern.match(key)) and KEY.fullmatch(match[0]):
        found = read_record(store, match[0], shape)
        if isinstance(found, Damaged):
            yield found
