"""However the working process ends, its parent says so, leaves no process behind, and exits as
promised.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator import signals
from orchestrator.run.leave import wait_for
from tests.sweeps import environment

PROGRAM = """
import os, signal, subprocess, sys, time
from orchestrator import signals
from orchestrator.errors import EnvironmentProblem, Interrupted
from orchestrator.run.driver import drive, lost
from orchestrator.streams import guard

def stubborn():
    with signals.waited_for():
        ready()
        time.sleep(60)

def slow():
    with signals.waited_for():
        ready()
        while signals.received is None:
            time.sleep(0.1)
        time.sleep(4)
    print("saved", flush=True)
    return 4

def ready():
    subprocess.Popen(["sleep", "61"], start_new_session=True)
    print("ready", flush=True)

def willing():
    try:
        ready()
        time.sleep(60)
    except Interrupted:
        return 4

def died():
    ready()
    os.write(2, b"a dump of many lines")
    os._exit(1)

def exiting():
    ready()
    sys.exit("a library ends us, at http://ann:hunter2@host")

def brief():
    ready()
    time.sleep(3)
    return 0

def killed():
    ready()
    os.kill(os.getpid(), signal.SIGKILL)

def without_ray():
    ready()
    lost("Ray's raylet ended")

def close(kind, message):
    print("closed", kind, message, flush=True)

signals.install()
guard()
try:
    code = drive({work}, close)
except (EnvironmentProblem, Interrupted) as error:
    print(error, file=sys.stderr)
    code = error.exit_code
sys.exit(code)
"""


class Driver:
    def __init__(self, work: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(work=work)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # a buffer would keep what follows the first line from communicate()
        )
        assert self.process.stdout is not None
        if "ready" in work or not work.startswith("lambda"):
            assert self.process.stdout.readline() == b"ready\n"
        self.below = psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end, at which no process is left; returns exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=30)
        assert not [process for process in self.below if process.is_running()]
        return self.process.returncode, out.decode(), err.decode()


def test_a_work_that_ends_by_itself_gives_its_exit_code() -> None:
    assert Driver("lambda: 0").end() == (0, "", "")
    code, out, _ = Driver("lambda: 3").end()
    assert (code, out.split()[:2]) == (3, ["closed", "interrupted"]), "what it left open is closed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_lets_the_work_end_and_is_the_exit_code(number: signal.Signals) -> None:
    driver = Driver("willing")
    driver.process.send_signal(number)
    driver.process.send_signal(number)  # as `timeout` does: twice at once, which counts as once
    code, out, err = driver.end()
    assert (code, out) == (128 + number, "")
    assert f"Ended by {number.name}. What is done is kept. To continue: " in err


def test_ctrl_c_after_a_signal_ends_at_once_what_would_not_end() -> None:
    driver = Driver("stubborn")
    driver.process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 20
    while driver.process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.2)
        driver.process.send_signal(signal.SIGINT)
    code, out, _ = driver.end()
    assert (code, out) == (128 + signal.SIGTERM, "closed interrupted ended by SIGTERM\n")


def test_a_machine_that_repeats_sigterm_does_not_cut_the_checkpoints_short() -> None:
    """Ray's job agent sends one, the hook before a pod's end another."""
    driver = Driver("slow")
    for _ in range(4):
        driver.process.send_signal(signal.SIGTERM)
        time.sleep(signals.AGAIN_AFTER_S / 2)
    assert driver.end()[:2] == (128 + signal.SIGTERM, "saved\n")


def test_before_its_end_a_pod_waits_for_drivers_and_not_for_what_nobody_reaps() -> None:
    program = "import os, time; os.fork() and time.sleep(60)"  # its child ends, and stays a zombie
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        try:
            (zombie,) = soon(lambda: psutil.Process(parent.pid).children())
            assert soon(lambda: zombie.status() == psutil.STATUS_ZOMBIE)
            began = time.monotonic()
            wait_for([zombie], deadline_s=20)
            assert time.monotonic() - began < 10
            wait_for([psutil.Process(parent.pid)], deadline_s=0.5)
            assert parent.poll() is None
        finally:
            parent.kill()


def soon(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + 20
    while not (found := look()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def test_what_a_work_raises_that_it_must_not_is_kept() -> None:
    code, out, err = Driver("exiting").end()
    assert code == 3
    assert "SystemExit: a library ends us" in out, "kept with the attempt"
    assert "SystemExit: a library ends us" in err
    assert "hunter2" not in out + err


def test_ctrl_z_and_fg_end_nothing() -> None:
    driver = Driver("brief")
    driver.process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)  # longer than the parent waits at a time
    driver.process.send_signal(signal.SIGCONT)
    assert driver.end() == (0, "", "")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ("died", "The driver of this run was ended by Ray with exit code 1"),
        ("killed", "The driver of this run was killed by SIGKILL"),
        ("without_ray", "Ray's raylet ended"),
    ],
)
def test_a_work_that_dies_is_a_sentence_and_exit_code_3(work: str, said: str) -> None:
    code, out, err = Driver(work).end()
    assert code == 3
    wrote = "\nIt wrote last:\na dump of many lines\n" if work == "died" else " "
    assert err.startswith(f"{said}.{wrote}What is done is kept. To continue: ")
    assert out.startswith(f"closed ray lost {said}")
    assert ("a dump of many lines" in out) == (work == "died"), "kept with the attempt"


def test_what_nohup_had_ignored_stays_ignored(tmp_path: Path) -> None:
    program = (
        "import os, signal; from orchestrator import signals; "
        "signals.install(); os.kill(os.getpid(), signal.SIGHUP)"
    )
    line = ["nohup", sys.executable, "-c", program]
    assert (
        subprocess.run(line, env=environment(), cwd=tmp_path, capture_output=True).returncode == 0
    )
