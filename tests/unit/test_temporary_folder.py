"""What a killed run leaves in the system's temporary folder is removed by the next one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.run.folders import HOLDER, remove_left, temporary_folder, work_folder
from orchestrator.run.options import RunOptions
from orchestrator.run.ray import LONGEST_RAY_PATH

KILLED = """
import os, signal
from orchestrator.run.folders import temporary_folder
with temporary_folder() as folder:
    (folder / "session").mkdir()
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # which Python has asked for already
    return tmp_path


def test_a_killed_runs_folder_goes_and_those_of_others_stay(temporary: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True)
    left, elsewhere, unknown = Path(done.stdout.strip()), temporary / "ns-1", temporary / "ns-2"
    elsewhere.mkdir()
    holder = json.loads((left / HOLDER).read_bytes())
    (elsewhere / HOLDER).write_text(json.dumps({**holder, "where": "in another container"}))
    unknown.mkdir()
    (unknown / HOLDER).write_text("{")
    with temporary_folder() as lives:
        with temporary_folder() as mine:
            assert set(temporary.iterdir()) == {left, elsewhere, unknown, lives, mine}
        assert set(temporary.iterdir()) == {elsewhere, unknown, lives}


@pytest.mark.parametrize("is_reaped", [True, False])
def test_a_folder_that_a_killed_run_still_filled_goes_at_the_end_of_the_next(
    temporary: Path, is_reaped: bool
) -> None:
    work = temporary / "runs" / "work"
    work.mkdir(parents=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    # A container's first process may not reap what it has inherited.
    os.waitid(os.P_PID, gone.pid, os.WEXITED | (0 if is_reaped else os.WNOWAIT))
    with work_folder(RunOptions(str(temporary / "runs"), "")):
        (work / str(gone.pid) / "ranks").mkdir(parents=True)
    assert not list(work.iterdir())
    gone.wait()


def test_what_is_written_after_the_end_goes_once_nobody_is_left_to_write(temporary: Path) -> None:
    runs = temporary / "runs"
    (runs / "work").mkdir(parents=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with temporary_folder() as folder:
        pass
    for late in (folder / "session", runs / "work" / str(gone.pid) / "ray", temporary / "ns-1"):
        late.mkdir(parents=True)
    remove_left(str(runs))
    assert {path.name for path in temporary.iterdir()} == {"runs", "ns-1"}
    assert not list((runs / "work").iterdir())


def test_rays_sockets_have_room_below_it() -> None:
    with temporary_folder() as folder:
        assert len(str(Path("/tmp", folder.name, "ray"))) <= LONGEST_RAY_PATH


def test_a_run_on_a_remote_store_leaves_nothing(temporary: Path) -> None:
    with work_folder(RunOptions("s3://bucket/runs", "")) as folder:
        assert list(temporary.iterdir()) == [folder]
    assert not list(temporary.iterdir())
