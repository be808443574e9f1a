"""Commands start anywhere: in a folder that is gone, for a user without a name or a home, on a
machine too busy for Ray.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem
from orchestrator.run.ray_start import start
from tests.sweeps import command, environment

HOME = "import getpass, pathlib; from orchestrator.home import usable_home; usable_home(); "


def test_a_deleted_working_folder_is_a_sentence(tmp_path: Path) -> None:
    line = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec "
    done = subprocess.run(
        ["sh", "-c", line + " ".join(command("plan", "s.yaml"))],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "The working folder no longer exists. Change to one that does.\n",
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that does not exist")
def test_a_user_without_a_name_is_given_a_name_and_a_home() -> None:
    program = (
        HOME + "home = pathlib.Path.home(); (home / 'x').touch(); print(getpass.getuser(), home)"
    )
    # As somebody who may read everything, since some machines have the interpreter in root's home.
    become = (
        "setpriv --reuid 12345 --regid 12345 --clear-groups "
        "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
    )
    done = subprocess.run(
        [
            *become.split(),
            "env",
            "-i",
            "HOME=/",
            f"PYTHONPATH={environment()['PYTHONPATH']}",
            sys.executable,
            "-c",
            program,
        ],
        capture_output=True,
        text=True,
    )
    user, _, home = done.stdout.strip().partition(" ")
    assert user == "12345", done.stderr
    assert not Path(home).exists(), "it is removed in the end"


def test_a_home_that_can_be_written_is_left_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOME + "print(pathlib.Path.home())"],
        env={**environment(), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(tmp_path)


def test_ray_gets_another_start_where_the_machine_was_too_busy_for_the_first() -> None:
    starts = iter([Exception("The current node timed out during startup."), None])

    def init() -> None:
        if (error := next(starts)) is not None:
            raise error

    start(init, None)
    assert not list(starts)


def test_a_ray_that_never_starts_is_a_sentence_and_what_it_started_is_ended() -> None:
    left: list[subprocess.Popen[bytes]] = []

    def init() -> None:
        left.append(subprocess.Popen(["sleep", "60"]))
        raise Exception(
            "The current node timed out during startup. This could happen ..."
        )  # as Ray does

    with pytest.raises(
        EnvironmentProblem, match=r"Ray cannot be started.*timed out[\s\S]*too busy"
    ):
        start(init, None)
    assert [process.wait(10) for process in left] == [-9] * len(left)
