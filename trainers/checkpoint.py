"""Checkpoints of a run folder: which files belong to one, and whether all of them are intact.

    checkpoints/step-00000100/     files of all ranks; or of one, if each has its own run folder
        ...                        what DeepSpeed and rank 0 wrote
        manifest.rank-0.json       {"step", "world_size", "zero_stage",
                                    "files": {name: {"sha256", "bytes"}}, "content_sha256"}

A rank's manifest is written last: aside, fsynced and renamed. A checkpoint is intact if the
manifests of all `world_size` ranks are there and every checksum holds. Any other is ignored, so a
kill at any moment costs only the steps since the last intact one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainers.durable import fsync, sha256_of, write_json

SURPRISING = ("older", "converted", "put aside")  # ways to begin that people should know about
CHECKSUM = "content_sha256"
MOMENTS = "moments.safetensors"  # the optimiser's state, whole (trainers.moments)


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
    has_moments: bool = False  # the optimiser's state is there unsharded

    def start_of(self, world_size: int, zero_stage: int) -> Start:
        """How a gang of this layout begins from it."""
        # ZeRO's shards fit only the world size and stage that wrote them.
        is_sharded = max(self.zero_stage, zero_stage) > 0
        if not is_sharded or (self.world_size, self.zero_stage) == (world_size, zero_stage):
            return Start("continued", self.step, f"continues from step {self.step}")
        theirs, ours = _layout(self.zero_stage, self.world_size), _layout(zero_stage, world_size)
        if self.has_moments:
            return Start(
                "converted",
                self.step,
                f"continues from step {self.step}, converted from {theirs} to {ours}",
            )
        return Start(
            "put aside",
            0,
            f"begins again at step 0: its checkpoint of step {self.step} is for {theirs}, and the "
            f"version that wrote it saved no optimiser state that {ours} could load. "
            f"`workers: {self.world_size}` with `zero_stage: {self.zero_stage}` would continue it.",
        )


@dataclass(frozen=True)
class Start:
    """How an attempt begins, and at which step; `sentence` is for people.

    With `put aside` there is a checkpoint that cannot be used, and the attempt begins at step 0.
    With `older` a newer one was damaged.
    """

    how: Literal["new", "continued", "older", "converted", "put aside"]
    step: int
    sentence: str

    @property
    def continues(self) -> bool:
        return self.how in ("continued", "older", "converted")

    @property
    def is_surprising(self) -> bool:
        """Whether people should read the sentence before training starts."""
        return self.how in SURPRISING


def start_from(
    folder: Path | None, world_size: int, zero_stage: int
) -> tuple[Start, Checkpoint | None]:
    """How a gang begins from the checkpoint in `folder`, and that checkpoint if it is intact."""
    if folder is None:
        return Start("new", 0, "begins at step 0"), None
    if (found := read_intact(folder)) is None:
        return Start(
            "put aside", 0, f"begins again at step 0: its checkpoint {folder.name} is damaged"
        ), None
    return found.start_of(world_size, zero_stage), found


def _layout(zero_stage: int, world_size: int) -> str:
    return f"ZeRO {zero_stage} on {world_size} rank{'s' * (world_size > 1)}"


def seal(
    folder: Path, *, rank: int, step: int, world_size: int, zero_stage: int, files: list[Path]
) -> None:
    """Fsync this rank's `files` and write its manifest, from which on the rank's part counts."""
    listed = {}
    for path in sorted(files):
        fsync(path)
        listed[str(path.relative_to(folder))] = {
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
        }
    fsync(folder)
    manifest = {"step": step, "world_size": world_size, "zero_stage": zero_stage, "files": listed}
    write_json(folder / _manifest_name(rank), {**manifest, CHECKSUM: _checksum(manifest)})


def _checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 of the rest of a manifest. Manifests of older versions have none."""
    said = {name: value for name, value in manifest.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _read_manifest(folder: Path, rank: int) -> dict[str, Any]:
    """A rank's manifest. Raises ValueError if it is not as it was written."""
    manifest: dict[str, Any] = json.loads((folder / _manifest_name(rank)).read_bytes())
    if manifest.get(CHECKSUM, _checksum(manifest)) != _checksum(manifest):
        raise ValueError("does not have the checksum that it states")
    return manifest


def read_intact(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`; None where a manifest is missing or a file is not as it says."""
    try:
        manifests = [_read_manifest(folder, 0)]
        for rank in range(1, manifests[0]["world_size"]):
            manifests.append(_read_manifest(folder, rank))
        for manifest in manifests:
            for name, promised in manifest["files"].items():
                path = folder / name
                if (
                    path.stat().st_size != promised["bytes"]
                    or sha256_of(path) != promised["sha256"]
                ):
                    return None
        first = manifests[0]
        # Stage 0 shards nothing: DeepSpeed's file holds the optimiser's state whole.
        has_moments = first["zero_stage"] == 0 or MOMENTS in first["files"]
        return Checkpoint(
            folder, first["step"], first["world_size"], first["zero_stage"], has_moments
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def newest_intact(checkpoints: Path) -> Checkpoint | None:
    """The intact checkpoint of the highest step under a run folder's `checkpoints/`."""
    for folder in sorted(checkpoints.glob("step-*"), reverse=True):
        found = read_intact(folder)
        if found is not None:
            return found
    return None


def discard_unfinished(checkpoints: Path, rank: int) -> None:
    """Remove checkpoint folders of a run folder that this rank has not finished."""
    for folder in checkpoints.glob("step-*"):
        if not (folder / _manifest_name(rank)).exists():
            shutil.rmtree(folder, ignore_errors=True)


def discard_older(checkpoints: Path, keep: int) -> None:
    """Remove all but the `keep` newest checkpoint folders of a run folder."""
    for folder in sorted(checkpoints.glob("step-*"))[:-keep]:
        # Ranks that share the run folder remove the same ones at the same time.
        shutil.rmtree(folder, ignore_errors=True)
