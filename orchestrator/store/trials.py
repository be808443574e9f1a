"""What a trial is in the store, written and read in one place.

    trials/<id>/spec.json
    trials/<id>/attempts/<n>/attempt.json          made exclusively: host, time, versions, placement
    trials/<id>/attempts/<n>/ranks.json            where each rank stands, and the GPUs that it sees
    trials/<id>/attempts/<n>/start.json            how it began: at which step, and why there
    trials/<id>/attempts/<n>/alive.json            renewed while the attempt runs
    trials/<id>/attempts/<n>/failure.json          why it ended without a result
    trials/<id>/attempts/<n>/journal/<first-seq>.jsonl   segments, each written once
    trials/<id>/checkpoints/step-<n>-<attempt>/    every rank's files, then manifest.json
    trials/<id>/result.json                        last of all
    trials/<id>/evaluations/<name>.json            of the final weights, made afterwards by `normsweep evaluate`

A trial has ended if and only if its result is there and its checksums hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.plan import Plan, Trial
from orchestrator.store import open_store
from orchestrator.store.base import Store
from trainers.checkpoint import SURPRISING, sha256_of

READERS = 16  # trials looked at together: a store may be far away
ALIVE_EVERY_S = 10.0
SILENT_AFTER_S = 60.0  # an attempt without a sign of life for so long is not running any more
DAMAGED = (KeyError, ValueError, TypeError, AttributeError)  # what reading JSON of another shape raises
FINAL = frozenset({"completed", "diverged"})
OUT_OF_MEMORY = "cuda_oom"  # the kind of failure; a final one makes the trial infeasible

Attempt = dict[str, Any]
Files = dict[str, dict[str, Any]]  # name -> {"sha256", "bytes"}


class Superseded(Exception):
    """A newer attempt of the same trial has begun: this one must end and write nothing more."""


@dataclass(frozen=True)
class Point:
    """One value of a metric, as the attempt that was first to journal it wrote it."""

    metric: str
    step: int
    value: float
    time: float
    attempt: int
    seq: int


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def _canonical_sha256(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def trial_ids(store: Store) -> list[str]:
    """Every trial that the store knows."""
    return sorted({key.split("/")[1] for key in store.list("trials") if key.endswith("/spec.json")})


# --- attempts ---------------------------------------------------------------------------------------------------------


def new_attempt(store: Store, trial: Trial, info: Mapping[str, Any]) -> int:
    """Begin the next attempt; of two callers at once each gets a number of its own. `info` must hold no secret."""
    store.put_once(f"trials/{trial.id}/spec.json", trial.spec.to_json().encode())
    number = newest_attempt(store, trial.id)
    while True:
        number += 1
        record = _json({"attempt": number, "started": time.time(), **info})
        if store.put_once(f"trials/{trial.id}/attempts/{number}/attempt.json", record):
            return number


def _attempt_numbers(store: Store, trial_id: str) -> list[int]:
    keys = store.list(f"trials/{trial_id}/attempts")
    return sorted(int(key.split("/")[3]) for key in keys if key.endswith("/attempt.json"))


def newest_attempt(store: Store, trial_id: str) -> int:
    """The number of the newest attempt; 0 where there is none."""
    return max(_attempt_numbers(store, trial_id), default=0)


def read_attempts(store: Store, trial_id: str) -> list[Attempt]:
    """Every attempt's record, oldest first."""
    numbers = _attempt_numbers(store, trial_id)
    return [json.loads(store.get(f"trials/{trial_id}/attempts/{n}/attempt.json")) for n in numbers]


def write_ranks(store: Store, trial_id: str, attempt: int, ranks: Sequence[Mapping[str, Any]]) -> None:
    """Where the ranks of an attempt stand: host, and the GPUs that each sees."""
    store.put_once(f"trials/{trial_id}/attempts/{attempt}/ranks.json", _json(list(ranks)))


def write_start(store: Store, trial_id: str, attempt: int, start: Mapping[str, Any]) -> None:
    """How an attempt begins: `how`, `step` and `sentence` (trainers.checkpoint.Start)."""
    store.put_once(f"trials/{trial_id}/attempts/{attempt}/start.json", _json(dict(start)))


def start_notes(store: Store, ids: Sequence[str]) -> dict[str, str]:
    """A sentence for each of these trials whose newest attempt did not simply continue its checkpoint as it was."""

    def note(trial_id: str) -> str | None:
        attempt = newest_attempt(store, trial_id)
        try:
            start = json.loads(store.get(f"trials/{trial_id}/attempts/{attempt}/start.json"))
            is_told = start["how"] in SURPRISING
            return f"attempt {attempt} {start['sentence']}" if is_told else None
        except DAMAGED:
            return None

    with ThreadPoolExecutor(READERS) as readers:
        return {trial_id: told for trial_id, told in zip(ids, readers.map(note, ids), strict=True) if told}


def say_alive(store: Store, trial_id: str, attempt: int) -> None:
    """Renew the attempt's sign of life; call every ALIVE_EVERY_S."""
    store.put(f"trials/{trial_id}/attempts/{attempt}/alive.json", _json({"time": time.time()}))


def write_failure(
    store: Store, trial_id: str, attempt: int, kind: str, message: str, *, final: bool, step: int = 0
) -> None:
    """Why an attempt ended without a result, and at which checkpoint; `final` where trying again unchanged cannot help."""
    record = {"kind": kind, "message": message, "final": final, "step": step, "time": time.time()}
    store.put(f"trials/{trial_id}/attempts/{attempt}/failure.json", _json(record))


def give_up(store: Store, trial_id: str, message: str) -> None:
    """Record that a trial's retries are used up, on its newest attempt."""
    attempt = newest_attempt(store, trial_id)
    failure = read_failure(store, trial_id) or {"kind": "unknown", "message": message}
    if attempt:
        step = failure.get("step", 0)
        write_failure(store, trial_id, attempt, failure["kind"], failure["message"], final=True, step=step)


def read_failure(store: Store, trial_id: str) -> dict[str, Any] | None:
    """Why the newest attempt ended without a result, where it did."""
    return next(iter(read_failures(store, trial_id, [newest_attempt(store, trial_id)])), None)


def read_failures(store: Store, trial_id: str, attempts: Iterable[int]) -> list[dict[str, Any]]:
    """Why these attempts ended without a result, of those that could say."""
    failures = []
    for attempt in attempts:
        with contextlib.suppress(KeyError):
            failures.append(json.loads(store.get(f"trials/{trial_id}/attempts/{attempt}/failure.json")))
    return failures


def read_failed_attempts(store: Store, trial_id: str, kind: str) -> list[tuple[Attempt, dict[str, Any]]]:
    """The attempts that ended with this kind of failure, and what each said; oldest first."""
    found = []
    for number in _attempt_numbers(store, trial_id):
        for failure in read_failures(store, trial_id, [number]):
            if failure["kind"] == kind:
                attempt = json.loads(store.get(f"trials/{trial_id}/attempts/{number}/attempt.json"))
                found.append((attempt, failure))
    return found


def check_newest(store: Store, trial_id: str, attempt: int) -> None:
    """The fence before a manifest or a result. Raises Superseded."""
    newest = newest_attempt(store, trial_id)
    if newest != attempt:
        raise Superseded(f"attempt {newest} of trial {trial_id} has begun; attempt {attempt} ends")


# --- journal ----------------------------------------------------------------------------------------------------------


def put_segment(store: Store, trial_id: str, attempt: int, first_seq: int, lines: bytes) -> None:
    """Ship whole journal lines, of which the first has number `first_seq`."""
    store.put_once(f"trials/{trial_id}/attempts/{attempt}/journal/{first_seq:010d}.jsonl", lines)


def _segments(store: Store, trial_id: str) -> list[tuple[int, str]]:
    """(attempt, key) of every segment, in the order in which they were journalled."""
    keys = store.list(f"trials/{trial_id}/attempts")
    return sorted((int(key.split("/")[3]), key) for key in keys if "/journal/" in key)


class JournalReader:
    """The journals of a trial's attempts as one history, in which every (metric, step) stands once.

    Where two attempts journalled the same one, the first counts.
    """

    def __init__(self, store: Store, trial_id: str) -> None:
        self._store = store
        self._trial_id = trial_id
        self._read: set[str] = set()
        self._seen: set[tuple[str, int]] = set()

    def new_points(self) -> Iterator[Point]:
        """What has been shipped since the last call."""
        for attempt, key in _segments(self._store, self._trial_id):
            if key in self._read:
                continue
            for line in self._store.get(key).splitlines():
                yield from self._points_of(attempt, json.loads(line))
            self._read.add(key)

    def _points_of(self, attempt: int, record: dict[str, Any]) -> Iterator[Point]:
        step = record["step"]
        for metric, value in record.get("values", {}).items():
            if (metric, step) not in self._seen:
                self._seen.add((metric, step))
                yield Point(metric, step, float(value), record["time"], attempt, record["seq"])


def read_points(store: Store, trial_id: str) -> Iterator[Point]:
    """Every (metric, step) of a trial once."""
    return JournalReader(store, trial_id).new_points()


# --- checkpoints ------------------------------------------------------------------------------------------------------


def checkpoint_prefix(trial_id: str, step: int, attempt: int) -> str:
    return f"trials/{trial_id}/checkpoints/step-{step:08d}-{attempt}"


def write_manifest(
    store: Store, trial_id: str, attempt: int, *, step: int, world_size: int, zero_stage: int, files: Files
) -> None:
    """Make a checkpoint count, once all its files are in the store. Raises Superseded."""
    check_newest(store, trial_id, attempt)
    manifest = {"step": step, "attempt": attempt, "world_size": world_size, "zero_stage": zero_stage, "files": files}
    store.put(f"{checkpoint_prefix(trial_id, step, attempt)}/manifest.json", _json(manifest))


def _checkpoints(store: Store, trial_id: str) -> dict[str, list[str]]:
    """Folder name -> its keys, newest first: by step, then by attempt."""
    folders: dict[str, list[str]] = {}
    for key in store.list(f"trials/{trial_id}/checkpoints"):
        folders.setdefault(key.split("/")[3], []).append(key)

    def age(name: str) -> tuple[int, int]:
        _, step, attempt = name.split("-")
        return int(step), int(attempt)

    return {name: folders[name] for name in sorted(folders, key=age, reverse=True)}


def fetch_checkpoint(store: Store, trial_id: str, into: Path) -> tuple[int, Path] | None:
    """The newest intact checkpoint's step and its files, in a folder below `into`. A torn one is passed over."""
    for name in _checkpoints(store, trial_id):
        prefix = f"trials/{trial_id}/checkpoints/{name}"
        folder = into / name.rpartition("-")[0]
        try:
            manifest = json.loads(store.get(f"{prefix}/manifest.json"))
            shutil.rmtree(folder, ignore_errors=True)  # a torn one of the same step
            folder.mkdir(parents=True)
            for file, promised in manifest["files"].items():
                store.get_file(f"{prefix}/{file}", folder / file)
                if sha256_of(folder / file) != promised["sha256"]:
                    raise ValueError(file)
            return int(manifest["step"]), folder
        except DAMAGED:
            continue
    return None


def has_checkpoints(store: Store, trial_id: str) -> bool:
    """Whether any checkpoint was finished, intact or not."""
    return any(key.endswith("/manifest.json") for key in store.list(f"trials/{trial_id}/checkpoints"))


def discard_checkpoints(store: Store, trial_id: str, keep: int) -> None:
    """Delete all checkpoints that count but the `keep` newest, and those that older attempts left unfinished."""
    newest = newest_attempt(store, trial_id)
    kept = 0
    for name, keys in _checkpoints(store, trial_id).items():
        sealed = any(key.endswith("/manifest.json") for key in keys)
        if sealed and kept < keep:
            kept += 1
        elif sealed or not name.endswith(f"-{newest}"):
            for key in sorted(keys, key=lambda key: not key.endswith("/manifest.json")):
                store.delete(key)


# --- results ----------------------------------------------------------------------------------------------------------


def write_result(
    store: Store, trial_id: str, attempt: int, *, sweep: str, step: int, outcome: str, metrics: Mapping[str, Any]
) -> None:
    """End the trial with its newest checkpoint and its whole journal. Raises Superseded."""
    check_newest(store, trial_id, attempt)
    prefix = checkpoint_prefix(trial_id, step, attempt)
    manifest = json.loads(store.get(f"{prefix}/manifest.json"))
    journal = {key: hashlib.sha256(store.get(key)).hexdigest() for _, key in _segments(store, trial_id)}
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
    store.put(f"trials/{trial_id}/result.json", _json({**result, "content_sha256": _canonical_sha256(result)}))


def read_result(store: Store, trial_id: str, *, verify: bool = False) -> dict[str, Any] | None:
    """The result, where it is there and intact; `verify` also reads the journal and the final checkpoint through."""
    try:
        result: dict[str, Any] = json.loads(store.get(f"trials/{trial_id}/result.json"))
        content = {key: value for key, value in result.items() if key != "content_sha256"}
        if result["content_sha256"] != _canonical_sha256(content):
            return None
        prefix = f"trials/{trial_id}/checkpoints/{result['checkpoint']['name']}"
        for file, promised in result["checkpoint"]["files"].items():
            if store.size(f"{prefix}/{file}") != promised["bytes"]:
                return None
            if verify and store.sha256(f"{prefix}/{file}") != promised["sha256"]:
                return None
        for key, sha256 in result["journal"].items():
            if hashlib.sha256(store.get(key)).hexdigest() != sha256:
                return None
    except DAMAGED:
        return None
    return result


def write_evaluation(store: Store, trial_id: str, name: str, evaluation: Mapping[str, Any]) -> None:
    """Keep what an evaluation of the trial's final weights gave; one of the same name is replaced."""
    store.put(f"trials/{trial_id}/evaluations/{name}.json", _json(evaluation))


def trial_state(store: Store, trial_id: str) -> str:
    """`done`, `diverged`, `running`, `failed`, `infeasible`, `interrupted` (an attempt without a result) or `pending`."""
    result = read_result(store, trial_id)
    if result is not None:
        return "diverged" if result["outcome"] == "diverged" else "done"
    attempt = newest_attempt(store, trial_id)
    if attempt == 0:
        return "pending"
    failure = read_failure(store, trial_id)
    if failure is not None:
        if not failure["final"]:
            return "interrupted"
        return "infeasible" if failure["kind"] == OUT_OF_MEMORY else "failed"
    try:
        alive = json.loads(store.get(f"trials/{trial_id}/attempts/{attempt}/alive.json"))
    except KeyError:
        return "interrupted"
    return "running" if time.time() - alive["time"] < SILENT_AFTER_S else "interrupted"


def trial_states(store_uri: str, plan: Plan) -> dict[str, str]:
    """The state of each trial of a plan. Opens the store only to read: a folder that is not there holds nothing."""
    if "://" not in store_uri and not Path(store_uri).is_dir():
        return {trial.id: "pending" for trial in plan.trials}
    return states_of(open_store(store_uri), [trial.id for trial in plan.trials])


def starts_of_plan(store_uri: str, plan: Plan) -> list[str]:
    """`start_notes` with the trials' names. Opens the store only to read."""
    if "://" not in store_uri and not Path(store_uri).is_dir():
        return []
    notes = start_notes(open_store(store_uri), [trial.id for trial in plan.trials])
    return [f"{trial.name}: {notes[trial.id]}" for trial in plan.trials if trial.id in notes]


def states_of(store: Store, ids: Sequence[str]) -> dict[str, str]:
    """The state of each of these trials."""
    with ThreadPoolExecutor(READERS) as readers:
        return dict(zip(ids, readers.map(lambda trial_id: trial_state(store, trial_id), ids), strict=True))


def ended(store: Store, trials: Iterable[Trial]) -> set[str]:
    """Ids of the trials that need no training any more, their results read through."""
    with ThreadPoolExecutor(READERS) as readers:
        ids = [trial.id for trial in trials]
        results = readers.map(lambda trial_id: read_result(store, trial_id, verify=True), ids)
        return {
            trial_id for trial_id, result in zip(ids, results, strict=True) if result and result["outcome"] in FINAL
        }
