"""How trials ended, and how their final weights were evaluated.

    trials/<id>/result.json                 last of all
    trials/<id>/evaluations/<name>.json     made afterwards by `normsweep evaluate`

A trial has ended if and only if its result is there and the checksums in it hold. Those of its
checkpoint need not, once that was removed on purpose (orchestrator.store.freed).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from orchestrator.errors import EnvironmentProblem
from orchestrator.store import records
from orchestrator.store.attempts import (
    Attempt,
    check_newest,
    damaged_spec,
    kept_spec,
    read_attempt,
    read_attempts,
    spec_of,
)
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import checkpoint_prefix, damaged_file, read_manifest
from orchestrator.store.freed import FREED, read_freed
from orchestrator.store.journals import DIGEST_DIGITS, READERS, SEGMENT, join_segments, segments
from orchestrator.store.records import Damaged, Record, read_bytes, read_record, sealed
from trainers.spec import RunSpec


def write_result(
    store: Store,
    trial_id: str,
    attempt: int,
    *,
    sweep: str,
    step: int,
    outcome: str,
    metrics: Mapping[str, Any],
    stopped_by: Mapping[str, Any] | None = None,
    why: str = "",
) -> None:
    """End the trial with its newest checkpoint and its journals, one joined segment per attempt.

    `stopped_by`: the decision that ended it early (orchestrator.store.stops). `why`: of a trial
    that diverged, what was seen of it.

    The result is written after the joined segments and before the originals are deleted, so that a
    kill in between leaves some lines twice, which readers expect. Raises Superseded.
    """
    check_newest(store, trial_id, attempt)
    prefix = checkpoint_prefix(trial_id, step, attempt)
    manifest = read_manifest(store, prefix)
    if not isinstance(manifest, dict):
        problem = manifest or f"{prefix}/manifest.json is missing"
        raise EnvironmentProblem(f"{problem}: trial {trial_id} cannot end with this checkpoint.")
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
        **({"why": why} if why else {}),
        "checkpoint": {"name": prefix.rpartition("/")[2], "files": manifest["files"]},
        "journal": journal.segments,
    }
    if stopped_by is not None:
        result["stopped_by"] = dict(stopped_by)
    store.put(result_key(trial_id), sealed(result))
    # The trial has ended even if the store fails now: readers skip originals that are left.
    with suppress(EnvironmentProblem), ThreadPoolExecutor(READERS) as writers:
        list(writers.map(store.delete, journal.superseded))


def result_key(trial_id: str) -> str:
    return f"trials/{trial_id}/result.json"


def ended_attempt(store: Store, trial_id: str) -> tuple[Record, Attempt, RunSpec] | None:
    """A trial's result, the attempt that it is of, and what that trained; None if one lacks."""
    result = stated_result(store, trial_id)
    if not isinstance(result, dict):
        return None
    attempt = read_attempt(store, trial_id, result["attempt"])
    spec = spec_of(attempt) if isinstance(attempt, dict) else None
    if spec is None or not isinstance(attempt, dict):
        return None
    return result, attempt, spec


def stated_result(store: Store, trial_id: str) -> Record | Damaged | None:
    """The result as written, without checking the files that it names; None if there is none."""
    key = result_key(trial_id)
    result = read_record(store, key, records.RESULT)
    if not isinstance(result, dict):
        return result
    if records.CHECKSUM not in result:
        return Damaged(key, f"lacks its {records.CHECKSUM}")
    if result["trial"] != trial_id:
        return Damaged(key, f"belongs to trial {result['trial']}")
    return result


def check_result(
    store: Store, trial_id: str, *, verify: bool = False, checksums: Mapping[str, str] | None = None
) -> Record | Damaged | None:
    """The result, if the files that it names are intact; None if there is none.

    If its checkpoint was removed by a sweep's `keep`, it also has `freed`, the record of that.
    `verify` also reads the final checkpoint through. `checksums`: those of segments already read.
    """
    result = stated_result(store, trial_id)
    if not isinstance(result, dict):
        return result
    for segment, sha256 in result["journal"].items():
        if problem := _damaged_segment(store, segment, sha256, (checksums or {}).get(segment)):
            return problem
    checkpoint = result["checkpoint"]
    prefix = f"trials/{trial_id}/checkpoints/{checkpoint['name']}"
    problem = damaged_file(store, prefix, checkpoint["files"], verify=verify)
    return result if problem is None else without_checkpoint(store, result, problem)


def without_checkpoint(store: Store, result: Record, problem: Damaged) -> Record | Damaged:
    """A result that lacks its checkpoint: with the record of its removal, or else the damage."""
    freed = read_freed(store, result)
    return {**result, FREED: freed} if isinstance(freed, dict) else freed or problem


def _damaged_segment(store: Store, key: str, sha256: str, found: str | None) -> Damaged | None:
    """The damage to a segment, if any. `found`: its checksum, if it has been read already."""
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
    """The result, or None if it is missing or damaged.

    `verify` also reads the final checkpoint through.
    """
    result = check_result(store, trial_id, verify=verify)
    return result if isinstance(result, dict) else None


def trained_spec(store: Store, trial_id: str, attempt: int) -> RunSpec:
    """The spec with which an attempt trained.

    Raises EnvironmentProblem if the store no longer has it.
    """
    found = read_attempt(store, trial_id, attempt)
    spec = spec_of(found) if isinstance(found, dict) else None
    if spec is not None:
        return spec
    kept = kept_spec(store, trial_id)
    problem = damaged_spec(trial_id, kept, read_attempts(store, trial_id))
    if problem is not None or not isinstance(kept, RunSpec):
        raise EnvironmentProblem(
            f"{problem or kept}. Put it back from a copy, or run the trial's sweep again."
        )
    return kept


def write_evaluation(store: Store, trial_id: str, name: str, evaluation: Mapping[str, Any]) -> None:
    """Keep an evaluation of the trial's final weights, replacing one of the same name."""
    store.put(evaluation_key(trial_id, name), sealed(evaluation))


def evaluation_key(trial_id: str, name: str) -> str:
    return f"trials/{trial_id}/evaluations/{name}.json"
