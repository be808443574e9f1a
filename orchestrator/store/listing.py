"""One listing of a trial: what there is of it, before anything is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.store.attempts import numbers_among
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import Folder, folders_among
from orchestrator.store.journals import Segment, segments_among

# Up to the file's name: where a folder has it, keys go on.
RECORD = re.compile(r"trials/[^/]+/(?:attempts/[1-9]\d{0,8}/)?[a-z]+\.json(?=/|$)")


@dataclass(frozen=True)
class Listing:
    """The keys of one trial at one moment, by what they are."""

    trial: str
    records: frozenset[str]  # keys of the JSON files of the trial and of its attempts
    attempts: tuple[int, ...]  # every number that left a trace
    segments: tuple[Segment, ...]
    checkpoints: tuple[Folder, ...]  # newest first
    is_empty: bool

    @property
    def newest(self) -> int:
        """The number of the newest attempt; 0 where there is none."""
        return max(self.attempts, default=0)

    @property
    def has_result(self) -> bool:
        return f"trials/{self.trial}/result.json" in self.records

    @property
    def step(self) -> int:
        """Of the newest checkpoint that was finished; 0 where there is none."""
        return max((folder.step for folder in self.checkpoints if folder.is_sealed), default=0)


def listed(store: Store, trial_id: str) -> Listing:
    """What the store holds of a trial. One request, whatever there is."""
    return _sorted(trial_id, store.list(f"trials/{trial_id}"))


def _sorted(trial_id: str, keys: Iterable[str]) -> Listing:
    keys = list(keys)
    return Listing(
        trial_id,
        records=frozenset(match[0] for key in keys if (match := RECORD.match(key))),
        attempts=tuple(numbers_among(keys)),
        segments=tuple(segments_among(keys)),
        checkpoints=tuple(folders_among(trial_id, keys)),
        is_empty=not keys,
    )
