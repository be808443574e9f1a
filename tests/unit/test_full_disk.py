"""A full disk in a rank is known by its error or, where a library hides that, by what is left."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from trainers import __main__, failures
from trainers.checkpoint import folder_name, seal
from trainers.failures import DiskFull, disk_full, write_disk_full
from trainers.recorder import Recorder


class Usage(NamedTuple):
    free: int


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/journal.jsonl"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        raised(RuntimeError("saving failed"), OSError(errno.ENOSPC, "full", "/out/x")),
        RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)"),
    ],
)
def test_what_says_that_the_disk_is_full_is_believed(tmp_path: Path, error: Exception) -> None:
    found = disk_full(error, tmp_path)
    assert found is not None and found.exit_code == 3
    assert str(found).startswith("the disk is full: ")
    assert "\n" not in str(found)


def test_a_writer_that_only_says_that_it_failed_is_believed_if_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed")
    assert disk_full(error, tmp_path) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(4096))
    assert str(disk_full(error, tmp_path)) == f"the disk is full: {tmp_path}, 0.0 MB free"
    assert disk_full(ValueError("a bug"), tmp_path) is None


def test_the_failure_is_written_in_the_room_of_the_unfinished_checkpoint(tmp_path: Path) -> None:
    for step in (20, 40):
        folder = tmp_path / "checkpoints" / folder_name(step)
        folder.mkdir(parents=True)
        (folder / "weights.pt").write_bytes(b"w")
        if step == 20:
            files = [folder / "weights.pt"]
            seal(folder, rank=0, step=step, world_size=1, zero_stage=0, files=files)
    write_disk_full(tmp_path, 0, DiskFull("the disk is full: /x, 0.0 MB free"))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [folder_name(20)]
    failure = json.loads((tmp_path / "failure-rank-0.json").read_text())
    assert failure["kind"] == "disk full"


def test_a_rank_whose_disk_is_full_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainers import loop

    def fails(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/journal.jsonl")

    def refuses(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(loop, "train", fails)
    monkeypatch.setattr(failures, "write_json", refuses)
    from tests.tiny import tiny_spec

    (tmp_path / "run.json").write_text(tiny_spec().to_json())
    code = __main__.main([str(tmp_path / "run.json"), "--out", str(tmp_path / "out")])
    assert code == 3
    said = capsys.readouterr().err
    assert said.startswith("the disk is full: /out/journal.jsonl, ")
    assert "Traceback" not in said


def test_a_trial_that_diverged_says_why_in_its_journal_and_result(tmp_path: Path) -> None:
    Recorder(tmp_path, 0).end(7, "diverged", final=True, why="the loss is nan")
    assert json.loads((tmp_path / "result.json").read_text())["why"] == "the loss is nan"
    assert (
        '"event": "diverged", "why": "the loss is nan"' in (tmp_path / "journal.jsonl").read_text()
    )
