"""Checkpoints that a sweep's `keep` has removed: on purpose, and so no damage.

    trials/<id>/freed.json      written before the checkpoint of the trial's result is deleted

The record is of one checkpoint, by its name, so a trial that is trained anew does not inherit it. A
kill after it was written leaves some files, which the next `run` or `gc` deletes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import TypeAdapter

from orchestrator.store.base import Store
from orchestrator.store.checkpoints import MANIFEST
from orchestrator.store.records import (
    Count,
    Damaged,
    Name,
    Record,
    Seconds,
    Shape,
    Text,
    read_record,
    sealed,
)

FREED = "freed"  # in a result that was read: the record, if its checkpoint was removed


class FreedRecord(Shape):
    trial: Name
    checkpoint: Name
    sweep: Name
    keep: Text
    bytes: Count
    time: Seconds


RECORD = TypeAdapter(FreedRecord)


def freed_key(trial_id: str) -> str:
    return f"trials/{trial_id}/freed.json"


def read_freed(store: Store, result: Record) -> Record | Damaged | None:
    """The record of the removal of a result's checkpoint; None if it was not removed."""
    found = read_record(store, freed_key(result["trial"]), RECORD)
    if not isinstance(found, dict):
        return found
    is_it = (found["trial"], found["checkpoint"]) == (result["trial"], result["checkpoint"]["name"])
    return found if is_it else None


def freed_in_words(freed: Record) -> str:
    """E.g. `removed by "keep: none" of sweep widths, at 2026-11-30 04:12 UTC`."""
    at = datetime.fromtimestamp(freed["time"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f'removed by "{freed["keep"]}" of sweep {freed["sweep"]}, at {at}'


def why_gone(store: Store, result: Record) -> str:
    """A clause that says that a result's checkpoint was removed; "" if it was not."""
    freed = result.get(FREED) or read_freed(store, result)
    return freed_in_words(freed) if isinstance(freed, dict) else ""


def bytes_of(result: Record) -> int:
    """The size of a result's checkpoint, removed or not."""
    return sum(int(file["bytes"]) for file in result["checkpoint"]["files"].values())


def free(store: Store, result: Record, keys: Iterable[str], *, sweep: str, keep: str) -> None:
    """Record that a result's checkpoint is removed, then delete these keys, manifests first."""
    if not isinstance(read_freed(store, result), dict):
        record = {
            "trial": result["trial"],
            "checkpoint": result["checkpoint"]["name"],
            "sweep": sweep,
            "keep": keep,
            "bytes": bytes_of(result),
            "time": time.time(),
        }
        store.put(freed_key(result["trial"]), sealed(record))
    for key in sorted(keys, key=lambda key: (not key.endswith(f"/{MANIFEST}"), key)):
        store.delete(key)
