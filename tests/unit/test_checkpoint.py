"""Of the checkpoints in a run folder, the intact ones count."""

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
        checkpoint.seal(
            folder, rank=rank, step=step, world_size=world_size, zero_stage=1, files=[part]
        )
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
    "damage",
    [spoil_content, cut_a_file, lose_a_file, lose_a_rank, cut_a_manifest, leave_a_strange_manifest],
)
def test_a_damaged_checkpoint_is_passed_over_for_an_older_intact_one(
    tmp_path: Path, damage
) -> None:
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


def test_without_checkpoints_none_is_found(tmp_path: Path) -> None:
    assert checkpoint.newest_intact(tmp_path / "checkpoints") is None


def held(zero_stage: int, world_size: int, *, moments: bool) -> checkpoint.Checkpoint:
    return checkpoint.Checkpoint(Path("step-00000020"), 20, world_size, zero_stage, moments)


def test_a_checkpoint_of_the_same_layout_is_continued_as_it_is() -> None:
    for stage in (0, 1, 2, 3):
        assert held(stage, 2, moments=False).start_of(2, stage).how == "continued"
    assert held(0, 2, moments=True).start_of(5, 0).how == "continued", (
        "without shards any number of ranks will do"
    )


@pytest.mark.parametrize(("workers", "stage"), [(1, 0), (2, 1), (2, 3), (3, 2)])
def test_a_checkpoint_of_another_layout_is_converted_or_put_aside_and_both_are_reported(
    workers: int, stage: int
) -> None:
    converted = held(2, 2, moments=True).start_of(workers, stage)
    assert (converted.how, converted.step, converted.is_surprising) == ("converted", 20, True)
    assert "from ZeRO 2 on 2 ranks to ZeRO " in converted.sentence
    aside = held(2, 2, moments=False).start_of(workers, stage)
    assert (aside.how, aside.step, aside.is_surprising) == ("put aside", 0, True)
    assert "`workers: 2` with `zero_stage: 2` would continue it" in aside.sentence


def test_a_checkpoint_without_shards_has_the_optimisers_state_whole(tmp_path: Path) -> None:
    folder = tmp_path / "step-00000001"
    folder.mkdir()
    checkpoint.seal(folder, rank=0, step=1, world_size=1, zero_stage=0, files=[])
    begins, found = checkpoint.start_from(folder, 2, 3)
    assert (begins.how, begins.step) == ("converted", 1)
    assert found is not None


def test_a_damaged_checkpoint_is_put_aside_and_none_is_a_new_start(tmp_path: Path) -> None:
    assert checkpoint.start_from(None, 1, 0)[0].how == "new"
    lose_a_rank(write(tmp_path, 7))
    begins, found = checkpoint.start_from(tmp_path / "step-00000007", 2, 1)
    assert (begins.how, begins.step, found) == ("put aside", 0, None)
