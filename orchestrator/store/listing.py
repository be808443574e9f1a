"""One listing of a trial: which files it has, before any of them is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.store.arrays import ArrayFile, arrays_among
from orchestrator.store.attempts import RETRY, attempt_key, numbers_among
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import Folder, folders_among
from orchestrator.store.journals import Segment, segments_among

# Matches up to the file's name, so that a folder in the file's place is found as well.
RECORD = re.compile(r"trials/[^/]+/(?:attempts/[1-9]\d{0,8}/)?[a-z]+\.json(?=/|$)")
COPY = re.compile(r"trials/[^/]+/attempts/[1-9]\d{0,8}/journal/[-\da-f]+\.columns(?=/|$)")


@dataclass(frozen=True)
class Listing:
    """A trial's keys at one moment, sorted by kind."""

    trial: str
    records: frozenset[str]  # keys of the JSON files of the trial and of its attempts
    attempts: tuple[int, ...]  # numbers of all attempts that left a trace
    segments: tuple[Segment, ...]
    copies: frozenset[str]  # keys of segments' copies in columns
    checkpoints: tuple[Folder, ...]  # newest first
    evaluations: tuple[str, ...]  # keys
    arrays: tuple[ArrayFile, ...]
    is_empty: bool

    @property
    def newest(self) -> int:
        """The newest attempt's number; 0 if there is none."""
        return max(self.attempts, default=0)

    @property
    def has_result(self) -> bool:
        return f"trials/{self.trial}/result.json" in self.records

    @property
    def is_retried(self) -> bool:
        """Whether `normsweep retry` has opened the trial again since its newest attempt ended."""
        return attempt_key(self.trial, self.newest, RETRY) in self.records

    @property
    def step(self) -> int:
        """The step of the newest finished checkpoint; 0 if there is none."""
        return max((folder.step for folder in self.checkpoints if folder.is_sealed), default=0)


def listed(store: Store, trial_id: str) -> Listing:
    """List a trial, in a single call however much there is."""
    return sorted_keys(trial_id, store.list(f"trials/{trial_id}"))


def sorted_keys(trial_id: str, keys: Iterable[str]) -> Listing:
    """A trial's keys, sorted by kind."""
    keys = list(keys)
    return Listing(
        trial_id,
        records=frozenset(match[0] for key in keys if (match := RECORD.match(key))),
        attempts=tuple(numbers_among(keys)),
        segments=tuple(segments_among(keys)),
        copies=frozenset(match[0] for key in keys if (match := COPY.match(key))),
        checkpoints=tuple(folders_among(trial_id, keys)),
        evaluations=tuple(key for key in keys if key.startswith(f"trials/{trial_id}/evaluations/")),
        arrays=tuple(arrays_among(keys)),
        is_empty=not keys,
    )
