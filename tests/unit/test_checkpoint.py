"""Which checkpoints of a run folder count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainers import checkpoint


def write(root: Path, step: int, world_size: int = 2) -> Path:
    folder = root / checkpoint.folder_name(step)
    folder.mkdir(parents=True)
    for rank in range(world_size):
        part = folder / f"part-{rank}"
        part.write_bytes(bytes([rank]) * 100)
        checkpoint.seal(folder, rank=rank, step=step, world_size=world_size, zero_stage=1, files=[part])
    return folder


def test_the_newest_intact_checkpoint_is_found(tmp_path: Path) -> None:
    write(tmp_path, 9)
    write(tmp_path, 10)
    found = checkpoint.newest_intact(tmp_path)
    assert found is not None
    assert (found.step, found.world_size, found.zero_stage) == (10, 2, 1)


def spoil_content(folder: Path) -> None:
    (folder / "part-1").write_bytes(b"x" * 100)


def cut_a_file(folder: Path) -> None:
    (folder / "part-0").write_bytes(b"")


def lose_a_file(folder: Path) -> None:
    (folder / "part-1").unlink()


def lose_a_rank(folder: Path) -> None:
    (folder / "manifest.rank-1.json").unlink()


def cut_a_manifest(folder: Path) -> None:
    path = folder / "manifest.rank-0.json"
    path.write_text(path.read_text()[:20])


def leave_a_strange_manifest(folder: Path) -> None:
    (folder / "manifest.rank-0.json").write_text(json.dumps([]))


@pytest.mark.parametrize(
    "damage", [spoil_content, cut_a_file, lose_a_file, lose_a_rank, cut_a_manifest, leave_a_strange_manifest]
)
def test_a_damaged_checkpoint_is_passed_over_for_an_older_intact_one(tmp_path: Path, damage) -> None:
    write(tmp_path, 1)
    damage(write(tmp_path, 2))
    found = checkpoint.newest_intact(tmp_path)
    assert found is not None
    assert found.step == 1


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 200):
        write(tmp_path, step)
    checkpoint.discard_older(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000200"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest_intact(tmp_path / "checkpoints") is None
