"""Checkpoints of a run folder: which files belong to one, and whether all of them are intact.

    checkpoints/step-00000100/          the files of every rank, in one folder or in one per rank's run folder
        ...                             what DeepSpeed and rank 0 wrote
        manifest.rank-0.json            {"step", "world_size", "zero_stage", "files": {name: {"sha256", "bytes"}}}

A rank's manifest is written last, aside, fsynced and renamed. A checkpoint is intact if the manifests of all
`world_size` ranks are there and every checksum holds; any other is ignored, so a kill at any moment costs only the
steps since the last intact one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def write_aside(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees either nothing or all of it, also after a power cut."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    _fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_aside(path, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def _manifest_name(rank: int) -> str:
    return f"manifest.rank-{rank}.json"


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint, as its manifests describe it."""

    folder: Path
    step: int
    world_size: int
    zero_stage: int

    def continues_as(self, world_size: int, zero_stage: int) -> bool:
        """Whether such a gang can continue it: ZeRO shards fit only the world size and stage that wrote them."""
        is_sharded = max(self.zero_stage, zero_stage) > 0
        return not is_sharded or (self.world_size, self.zero_stage) == (world_size, zero_stage)


def seal(folder: Path, *, rank: int, step: int, world_size: int, zero_stage: int, files: list[Path]) -> None:
    """Fsync this rank's `files` and write its manifest: from here on the rank's part counts."""
    listed = {}
    for path in sorted(files):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        listed[str(path.relative_to(folder))] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    _fsync_folder(folder)
    manifest = {"step": step, "world_size": world_size, "zero_stage": zero_stage, "files": listed}
    write_json(folder / _manifest_name(rank), manifest)


def read_intact(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where a rank's manifest or a checksum is missing or wrong."""
    try:
        manifests = [json.loads((folder / _manifest_name(0)).read_bytes())]
        for rank in range(1, manifests[0]["world_size"]):
            manifests.append(json.loads((folder / _manifest_name(rank)).read_bytes()))
        for manifest in manifests:
            for name, promised in manifest["files"].items():
                path = folder / name
                if path.stat().st_size != promised["bytes"] or sha256_of(path) != promised["sha256"]:
                    return None
        first = manifests[0]
        return Checkpoint(folder, first["step"], first["world_size"], first["zero_stage"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        return None


def newest_intact(checkpoints: Path) -> Checkpoint | None:
    """The intact checkpoint of the highest step under a run folder's `checkpoints/`."""
    for folder in sorted(checkpoints.glob("step-*"), reverse=True):
        found = read_intact(folder)
        if found is not None:
            return found
    return None


def discard_older(checkpoints: Path, keep: int) -> None:
    """Remove all but the `keep` newest checkpoint folders of a run folder, which another rank may be doing as well."""
    for folder in sorted(checkpoints.glob("step-*"))[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)
