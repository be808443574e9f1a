"""A trial's checkpoints: every rank's files, then the manifest that makes them count.

    trials/<id>/checkpoints/step-<n>-<attempt>/    files, then manifest.json

A checkpoint without a manifest was never finished, and one that does not hold what its manifest
promises is damaged. Both are passed over in favour of an older one.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.store import records
from orchestrator.store.attempts import check_newest, numbers_among
from orchestrator.store.base import Store, Unreadable
from orchestrator.store.records import Damaged, Record, read_record, sealed
from trainers.durable import sha256_of

FOLDER = re.compile(r"trials/[^/]+/checkpoints/(step-(\d{1,15})-([1-9]\d{0,8}))/.+")
MANIFEST = "manifest.json"

Files = dict[str, dict[str, Any]]  # name -> {"sha256", "bytes"}
FinalFiles = tuple[str, Files]  # prefix and files of the checkpoint that a result names


@dataclass(frozen=True)
class Folder:
    """A checkpoint's folder in the store and the keys in it."""

    prefix: str
    step: int
    attempt: int
    keys: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.prefix.rpartition("/")[2]

    @property
    def is_sealed(self) -> bool:
        return f"{self.prefix}/{MANIFEST}" in self.keys

    @property
    def has_manifest(self) -> bool:
        """Whether there is a manifest, or something else in its place, such as a folder."""
        manifest = f"{self.prefix}/{MANIFEST}"
        return any(key == manifest or key.startswith(f"{manifest}/") for key in self.keys)


def checkpoint_prefix(trial_id: str, step: int, attempt: int) -> str:
    return f"trials/{trial_id}/checkpoints/step-{step:08d}-{attempt}"


def write_manifest(
    store: Store,
    trial_id: str,
    attempt: int,
    *,
    step: int,
    world_size: int,
    zero_stage: int,
    files: Files,
) -> None:
    """Make a checkpoint count, once all its files are in the store. Raises Superseded."""
    check_newest(store, trial_id, attempt)
    manifest = {
        "step": step,
        "attempt": attempt,
        "world_size": world_size,
        "zero_stage": zero_stage,
        "files": files,
    }
    store.put(f"{checkpoint_prefix(trial_id, step, attempt)}/{MANIFEST}", sealed(manifest))


def folders(store: Store, trial_id: str) -> list[Folder]:
    """Every checkpoint's folder, newest first: by step, then by attempt."""
    return folders_among(trial_id, store.list(f"trials/{trial_id}/checkpoints"))


def folders_among(trial_id: str, keys: Iterable[str]) -> list[Folder]:
    """The checkpoints' folders among a trial's keys, newest first."""
    found: dict[tuple[int, int, str], list[str]] = {}
    for key in keys:
        if match := FOLDER.fullmatch(key):
            found.setdefault((int(match[2]), int(match[3]), match[1]), []).append(key)
    prefix = f"trials/{trial_id}/checkpoints"
    return [
        Folder(f"{prefix}/{name}", step, attempt, tuple(found[step, attempt, name]))
        for step, attempt, name in sorted(found, reverse=True)
    ]


def read_manifest(store: Store, prefix: str) -> Record | Damaged | None:
    """A checkpoint's manifest; None if the checkpoint was never finished."""
    key = f"{prefix}/{MANIFEST}"
    manifest = read_record(store, key, records.MANIFEST)
    if isinstance(manifest, dict):
        match = FOLDER.fullmatch(key)
        if match is None or (int(match[2]), int(match[3])) != (
            manifest["step"],
            manifest["attempt"],
        ):
            step, attempt = manifest["step"], manifest["attempt"]
            return Damaged(key, f"belongs to step {step}, attempt {attempt}")
    return manifest


def damaged_file(
    store: Store, prefix: str, files: Mapping[str, Any], *, verify: bool
) -> Damaged | None:
    """The first file of a checkpoint that is not as promised, if any.

    Sizes are compared; with `verify` checksums are too, for which every file is read.
    """
    for name, promised in files.items():
        key = f"{prefix}/{name}"
        try:
            if (size := store.size(key)) != promised["bytes"]:
                return Damaged(key, f"has {size} bytes, not {promised['bytes']}")
            if verify and store.sha256(key) != promised["sha256"]:
                return Damaged(key, "does not have the checksum that was promised for it")
        except Unreadable as error:
            return Damaged(key, error.why)
        except KeyError:
            return Damaged(key, "is missing")
    return None


def damaged_checkpoints(
    store: Store, found: Iterable[Folder], *, verify: bool = False, known: FinalFiles | None = None
) -> list[Damaged]:
    """The damage to finished checkpoints, at most one file of each.

    `known`: a checkpoint whose files have been checked already; they are not checked again.
    """
    damaged = []
    for folder in found:
        manifest = read_manifest(store, folder.prefix) if folder.has_manifest else None
        if isinstance(manifest, Damaged):
            damaged.append(manifest)
        elif manifest is not None and (folder.prefix, manifest["files"]) != known:
            problem = damaged_file(store, folder.prefix, manifest["files"], verify=verify)
            # If the manifest is gone by now, the checkpoint is being discarded (manifests go
            # first), and its missing files are not damage.
            damaged += [problem] if problem and read_manifest(store, folder.prefix) else []
    return damaged


def fetch_checkpoint(
    store: Store, trial_id: str, into: Path, damaged: list[Damaged] | None = None
) -> tuple[int, Path] | None:
    """Fetch the newest intact checkpoint; return its step and its folder, which is below `into`.

    Unfinished checkpoints are passed over; so are damaged ones, which are added to `damaged`.
    """
    for found in folders(store, trial_id):
        manifest = read_manifest(store, found.prefix)
        if manifest is None:
            continue
        folder = into / found.name.rpartition("-")[0]
        problem = (
            manifest
            if isinstance(manifest, Damaged)
            else _fetch(store, found.prefix, manifest["files"], folder)
        )
        if problem is None and isinstance(manifest, dict):
            return int(manifest["step"]), folder
        if problem is not None and damaged is not None:
            damaged.append(problem)
    return None


def has_checkpoints(store: Store, trial_id: str) -> bool:
    """Whether any checkpoint was finished, intact or not."""
    return any(folder.is_sealed for folder in folders(store, trial_id))


def _fetch(store: Store, prefix: str, files: Mapping[str, Any], folder: Path) -> Damaged | None:
    shutil.rmtree(folder, ignore_errors=True)  # what is left of a damaged one of the same step
    for name, promised in files.items():
        key, path = f"{prefix}/{name}", folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.get_file(key, path)
        except Unreadable as error:
            return Damaged(key, error.why)
        except KeyError:
            return Damaged(key, "is missing")
        if sha256_of(path) != promised["sha256"]:
            return Damaged(key, "does not have the checksum that was promised for it")
    return None


def discard_checkpoints(store: Store, trial_id: str, keep: int) -> None:
    """Delete all finished checkpoints but the `keep` newest, and unfinished ones of older attempts.

    The newest attempt's checkpoints rank first, because their content has just been written, while
    nobody has checked an older attempt's. So an older attempt's checkpoint never displaces a fresh
    one, even if its step is higher; it stays until the newest attempt reaches its step.
    """
    keys = store.list(f"trials/{trial_id}")
    newest, found = max(numbers_among(keys), default=0), folders_among(trial_id, keys)
    own = [folder for folder in found if folder.is_sealed and folder.attempt == newest]
    reached = own[0].step if own else -1
    older = [folder for folder in found if folder.is_sealed and folder.attempt != newest]
    kept = [*own[:keep], *(folder for folder in older if folder.step > reached)]
    behind = (folder for folder in older if folder.step <= reached and _seems_whole(store, folder))
    kept += itertools.islice(behind, max(0, keep - len(own)))
    for folder in found:
        if folder not in kept and (folder.is_sealed or folder.attempt != newest):
            # The manifest goes first: a kill in between leaves an unfinished checkpoint, not a
            # damaged one.
            for key in sorted(folder.keys, key=lambda key: not key.endswith(f"/{MANIFEST}")):
                store.delete(key)


def _seems_whole(store: Store, folder: Folder) -> bool:
    manifest = read_manifest(store, folder.prefix)
    return (
        isinstance(manifest, dict)
        and damaged_file(store, folder.prefix, manifest["files"], verify=False) is None
    )
