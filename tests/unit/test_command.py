"""The command itself: its version, its exit codes in --help, and `python -m normsweep`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import version
from orchestrator.errors import EnvironmentProblem, Interrupted, TrialsFailed, UserError
from orchestrator.signals import ENDING
from tests.in_process import Command
from tests.sweeps import environment


def test_python_runs_the_command_by_its_name_whatever_lies_in_the_folder(tmp_path: Path) -> None:
    for shadow in ("copy.py", "orchestrator.py", "trainers.py", "typer.py"):
        (tmp_path / shadow).write_text("raise SystemExit('shadowed')\n")
    done = subprocess.run(
        [sys.executable, "-m", "normsweep", "--version"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("normsweep ")


def test_the_version_has_a_commit_where_one_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "commit", lambda: "1a2b3c4d5e6f-dirty")
    assert re.fullmatch(r"normsweep \S.*, commit 1a2b3c4d5e6f-dirty", version.in_words())
    monkeypatch.setattr(version, "commit", lambda: "")
    assert "commit" not in version.in_words()


def test_help_has_every_exit_code(command: Command) -> None:
    code, said, _ = command("--help")
    said = " ".join(said.split())
    codes = {1, *(kind.exit_code for kind in (UserError, EnvironmentProblem, TrialsFailed))}
    codes |= {Interrupted(signal).exit_code for signal in ENDING}
    assert code == 0
    listed = said[said.index("Exit codes: ") :]
    assert {int(word) for word in re.findall(r"\b\d+\b", listed)} == {0, *codes}
    assert "one YAML file in, a report out" in said
