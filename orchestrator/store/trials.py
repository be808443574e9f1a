"""Trials as the store has them: what was written is looked at once, and nothing of it is believed that cannot be checked.

    trials/<id>/spec.json, attempts/<n>/            orchestrator.store.attempts
    trials/<id>/attempts/<n>/journal/               orchestrator.store.journals
    trials/<id>/checkpoints/step-<n>-<attempt>/     orchestrator.store.checkpoints
    trials/<id>/probes/<probe>/                     orchestrator.store.arrays
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
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan
from orchestrator.store import read_store, records
from orchestrator.store.attempts import (
    attempt_key,
    attempt_numbers,
    check_newest,
    damaged_spec,
    failure_at,
    is_alive,
    kept_spec,
    newest_attempt,
    read_alive,
    read_attempt,
    read_attempts,
    read_start,
    spec_of,
)
from orchestrator.store.base import KEY, Store
from orchestrator.store.checkpoints import (
    checkpoint_prefix,
    damaged_checkpoints,
    damaged_file,
    newest_step,
    read_manifest,
)
from orchestrator.store.journals import DIGEST_DIGITS, SEGMENT, Journal, read_journal, segments
from orchestrator.store.records import OUT_OF_MEMORY, Damaged, Record, read_bytes, read_record, sealed
from trainers.spec import RunSpec

READERS = 16  # trials looked at together: a store may be far away


def trial_ids(store: Store) -> list[str]:
    """Every trial that the store knows."""
    found = {parts[1] for key in store.list("trials") if len(parts := key.split("/")) > 2}
    return sorted(trial for trial in found if KEY.fullmatch(trial))


# --- results ----------------------------------------------------------------------------------------------------------


def write_result(
    store: Store, trial_id: str, attempt: int, *, sweep: str, step: int, outcome: str, metrics: Mapping[str, Any]
) -> None:
    """End the trial with its newest checkpoint and its whole journal. Raises Superseded."""
    check_newest(store, trial_id, attempt)
    prefix = checkpoint_prefix(trial_id, step, attempt)
    manifest = read_manifest(store, prefix)
    if not isinstance(manifest, dict):
        raise EnvironmentProblem(
            f"{manifest or f'{prefix}/manifest.json is missing'}: trial {trial_id} cannot end with it."
        )
    journal = {found.key: hashlib.sha256(store.get(found.key)).hexdigest() for found in segments(store, trial_id)}
    result = {
        "trial": trial_id,
        "sweep": sweep,
        "attempt": attempt,
        "outcome": outcome,
        "step": step,
        "ended": time.time(),
        "metrics": dict(metrics),
        "checkpoint": {"name": prefix.rpartition("/")[2], "files": manifest["files"]},
        "journal": journal,
    }
    store.put(f"trials/{trial_id}/result.json", sealed(result))


def check_result(store: Store, trial_id: str, *, verify: bool = False) -> Record | Damaged | None:
    """The result with what it promises; `verify` also reads the final checkpoint through. None where there is none."""
    key = f"trials/{trial_id}/result.json"
    result = read_record(store, key, records.RESULT)
    if not isinstance(result, dict):
        return result
    if records.CHECKSUM not in result:
        return Damaged(key, f"lacks its {records.CHECKSUM}")
    if result["trial"] != trial_id:
        return Damaged(key, f"is of trial {result['trial']}")
    for segment, sha256 in result["journal"].items():
        if problem := _damaged_segment(store, segment, sha256):
            return problem
    checkpoint = result["checkpoint"]
    prefix = f"trials/{trial_id}/checkpoints/{checkpoint['name']}"
    return damaged_file(store, prefix, checkpoint["files"], verify=verify) or result


def _damaged_segment(store: Store, key: str, sha256: str) -> Damaged | None:
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
    problem = damaged_spec(store, trial_id, read_attempts(store, trial_id))
    kept = kept_spec(store, trial_id)
    if problem is not None or not isinstance(kept, RunSpec):
        raise EnvironmentProblem(f"{problem or kept}. Put it back from a copy, or run the trial's sweep again.")
    return kept


def write_evaluation(store: Store, trial_id: str, name: str, evaluation: Mapping[str, Any]) -> None:
    """Keep what an evaluation of the trial's final weights gave; one of the same name is replaced."""
    store.put(f"trials/{trial_id}/evaluations/{name}.json", sealed(evaluation))


# --- states -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What was found of one trial; `damaged` names everything that was passed over.

    `state` is `done`, `diverged`, `stopped`, `running`, `failed`, `infeasible`, `interrupted` (an attempt without a result),
    `pending` or `damaged`.
    """

    trial: str
    state: str
    damaged: tuple[Damaged, ...] = ()
    hindrances: tuple[Damaged, ...] = ()  # for which it must not be trained on: see decision 15
    note: str = ""  # on how the newest attempt began
    step: int = 0  # of the newest checkpoint that was finished

    @property
    def has_ended(self) -> bool:
        return self.state in ("done", "diverged")


def trial_state(store: Store, trial_id: str) -> str:
    """The state of a trial, by its result or its newest attempt alone: see Look."""
    return _state(store, trial_id, check_result(store, trial_id), newest_attempt(store, trial_id))


def _state(store: Store, trial_id: str, result: Record | Damaged | None, attempt: int) -> str:
    if isinstance(result, Damaged):
        return "damaged"
    if result is not None:
        return "done" if result["outcome"] == "completed" else str(result["outcome"])
    if attempt == 0:
        return "pending"
    failure = failure_at(store, trial_id, attempt)
    if not isinstance(failure, dict):
        return "running" if is_alive(store, trial_id, attempt) else "interrupted"
    if not failure["final"]:
        return "interrupted"
    return "infeasible" if failure["kind"] == OUT_OF_MEMORY else "failed"


def look_at(store: Store, trial_id: str, journal: Journal | None = None, *, verify: bool = False) -> Look:
    """Look at everything that the store has of a trial, its `journal` as it was read already; `verify` also reads its
    checkpoints through.
    """
    result = check_result(store, trial_id, verify=verify)
    numbers = attempt_numbers(store, trial_id)
    newest = max(numbers, default=0)
    state = _state(store, trial_id, result, newest)
    if state == "pending" and not store.list(f"trials/{trial_id}"):
        return Look(trial_id, state)
    journal = journal or read_journal(store, trial_id)
    damaged = [*journal.damaged]
    damaged += [result] if isinstance(result, Damaged) else []
    attempts = []
    for number in numbers:
        found = read_attempt(store, trial_id, number)
        others = [failure_at(store, trial_id, number), read_start(store, trial_id, number)]
        others += [read_record(store, attempt_key(trial_id, number, "ranks.json"), records.RANKS)]
        others += [read_alive(store, trial_id, number)] if number == newest else []
        damaged += [record for record in (found, *others) if isinstance(record, Damaged)]
        attempts += [found] if isinstance(found, dict) else []
    damaged += [problem] if (problem := damaged_spec(store, trial_id, attempts)) else []
    damaged += damaged_checkpoints(store, trial_id, verify=verify)
    start = read_start(store, trial_id, newest)
    once = tuple({(problem.key, problem.why): problem for problem in damaged}.values())
    written = (f"trials/{trial_id}/spec.json", f"trials/{trial_id}/result.json")
    hindrances = [p for p in once if SEGMENT.fullmatch(p.key) or (p.is_in_the_way and p.key in written)]
    note = start["note"] if isinstance(start, dict) else ""
    return Look(
        trial_id, "damaged" if hindrances else state, once, tuple(hindrances), note, newest_step(store, trial_id)
    )


def looks_at(store: Store, ids: Sequence[str], *, verify: bool = False) -> dict[str, Look]:
    """Look at each of these trials."""
    with ThreadPoolExecutor(READERS) as readers:
        return dict(zip(ids, readers.map(lambda trial_id: look_at(store, trial_id, verify=verify), ids), strict=True))


def states_of(store: Store, ids: Sequence[str]) -> dict[str, str]:
    """The state of each of these trials."""
    return {trial_id: look.state for trial_id, look in looks_at(store, ids).items()}


def looks_at_plan(store_uri: str, plan: Plan) -> dict[str, Look]:
    """Look at each trial of a plan. Reads only: a folder that is not there holds nothing."""
    return looks_at(read_store(store_uri), [trial.id for trial in plan.trials])


def trial_states(store_uri: str, plan: Plan) -> dict[str, str]:
    """The state of each trial of a plan. Reads only."""
    return {trial_id: look.state for trial_id, look in looks_at_plan(store_uri, plan).items()}


def damage_in_words(looks: Iterable[Look]) -> list[str]:
    """A sentence for each damaged file of these trials."""
    return [f"damaged: {problem}" for look in looks for problem in look.damaged]
