"""Whatever ends `normsweep run`, it exits with the promised code, leaves a checkpoint and no
process, and prints a command that continues to the same bits.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.sweeps import (
    assert_same_bits,
    command,
    environment,
    run,
    trained,
    wait_for,
    write_sweep,
)
from trainers import journal

STEPS = 240
ONLY_WHEN_ASKED = {"steps": STEPS, "checkpoint_every": 10_000}
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
MARK = "NORMSWEEP_TEST_RUN"
CONTINUES = "To continue: "


class Run:
    """A run in its own process group. Its processes are known by a mark in their environment."""

    def __init__(self, line: list[str] | str, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            line,
            shell=isinstance(line, str),
            cwd=folder,
            env={**environment(), MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # These tests may run under nohup, which ignores it.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                # Ray's workers write their titles over their environment, mark and all.
                is_ours = (
                    process.environ().get(MARK) == self.mark
                    or os.getsid(process.pid) == self.process.pid
                )
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def named(self, name: str) -> psutil.Process:
        return next(process for process in self.processes() if process.name() == name)

    def end(self) -> str:
        """Wait for its end, at which no process may be left. Returns what it printed."""
        output, _ = self.process.communicate(timeout=280)
        assert "Traceback" not in output, output
        assert not self.processes()
        return output


@contextmanager
def started(line: list[str] | str, folder: Path) -> Iterator[Run]:
    one = Run(line, folder)
    try:
        yield one
    finally:
        for process in one.processes():
            process.kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sweep, run without a signal."""
    return trained(tmp_path_factory.mktemp("undisturbed"), **ONLY_WHEN_ASKED)


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint that counts."""
    sealed = (folder / "runs/trials").glob("*/checkpoints/step-*/manifest.json")
    return max((json.loads(path.read_text())["step"] for path in sealed), default=0)


def journalled_step(folder: Path) -> int:
    """The last step that a rank has written down, whether or not it has been shipped."""
    journals = [
        *folder.glob("runs/trials/*/attempts/*/journal/*.jsonl"),
        *folder.glob("runs/work/*/ranks/*/journal.jsonl"),
    ]
    steps = []
    for path in journals:
        with suppress(FileNotFoundError):  # the run folder of a rank that has just ended
            steps += [line["step"] for line in journal.read(path)]
    return max(steps, default=0)


def failures(folder: Path) -> list[dict]:
    """Failures in the order of attempts."""
    written = (folder / "runs/trials").glob("*/attempts/*/failure.json")
    return [
        json.loads(path.read_text())
        for path in sorted(written, key=lambda path: int(path.parent.name))
    ]


def continuing(output: str) -> str:
    return output.rpartition(CONTINUES)[2].splitlines()[0]


@pytest.mark.timeout(900)  # six runs, each of which starts Ray
def test_whatever_ends_a_run_its_printed_command_continues_to_the_same_bits(
    tmp_path: Path, undisturbed: Path
) -> None:
    line: list[str] | str = command("run", write_sweep(tmp_path, **ONLY_WHEN_ASKED))
    for ending in (signal.SIGTERM, "raylet", signal.SIGHUP, "gcs_server", signal.SIGINT):
        with started(line, tmp_path) as one:
            before = journalled_step(tmp_path)
            wait_for(lambda before=before: journalled_step(tmp_path) > before + 5, one.process)
            assert {process.nice() for process in one.processes()} == {os.nice(0)}, (
                "not at Ray's 15"
            )
            reached = journalled_step(tmp_path)
            if isinstance(ending, str):
                victim = one.named(ending)
                victim.kill()
            elif ending == signal.SIGHUP:  # as when a terminal closes: every process gets it
                os.killpg(one.process.pid, ending)
            else:
                one.process.send_signal(ending)
            output = one.end()
        failure = failures(tmp_path)[-1]
        if isinstance(ending, str):
            assert one.process.returncode == 3, output
            assert f"Ray's {ending} (process {victim.pid}) was killed by SIGKILL" in output
            assert failure["kind"] == "ray lost"
            assert "Termination is unexpected" not in output, "Ray's dump"
        else:
            assert one.process.returncode == 128 + ending, output
            assert newest_step(tmp_path) >= reached, "a checkpoint of the step reached"
            assert failure["step"] == newest_step(tmp_path)
        line = f"exec {continuing(output)}"
    with started(line, tmp_path) as one:
        output = one.end()
    assert one.process.returncode == 0, output
    assert_same_bits(tmp_path, undisturbed)


@pytest.mark.parametrize("ending", SIGNALS)
@pytest.mark.parametrize("delay_s", [0.2, 3.0])
def test_a_run_that_has_hardly_begun_ends_at_once(
    tmp_path: Path, ending: signal.Signals, delay_s: float
) -> None:
    with started(command("run", write_sweep(tmp_path)), tmp_path) as one:
        until = time.monotonic() + delay_s
        wait_for(lambda: time.monotonic() > until and listens(one.process.pid), one.process)
        one.process.send_signal(ending)
        output = one.end()
    assert one.process.returncode == 128 + ending, output
    assert all(failure["kind"] == "interrupted" for failure in failures(tmp_path))


def listens(pid: int) -> bool:
    """Whether the process has reached our code, which catches or blocks SIGTERM."""
    status = dict(
        line.split(":\t")
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    return bool((int(status["SigCgt"], 16) | int(status["SigBlk"], 16)) & 1 << signal.SIGTERM - 1)


@pytest.mark.campaign
@pytest.mark.parametrize("ending", SIGNALS)
@pytest.mark.timeout(7200)
def test_a_signal_at_any_moment(tmp_path: Path, undisturbed: Path, ending: signal.Signals) -> None:
    """Signals at $NORMSWEEP_MOMENTS (10) moments: half by time, the report included, half by step.

    Ray's start takes longer than the training, so by time alone few signals would hit the training.
    """
    moments = random.Random(ending)
    file = write_sweep(tmp_path / "timed", **ONLY_WHEN_ASKED)
    began = time.monotonic()
    run(file)
    lasts_s = time.monotonic() - began
    for moment in range(int(os.environ.get("NORMSWEEP_MOMENTS", "10"))):
        folder = tmp_path / str(moment)
        at_s, at_step = moments.uniform(0.3, lasts_s), moments.randrange(1, STEPS)
        when = f"at step {at_step}" if moment % 2 else f"at {at_s:.2f} s of {lasts_s:.2f}"
        with started(command("run", write_sweep(folder, **ONLY_WHEN_ASKED)), folder) as one:
            began = time.monotonic()
            while one.process.poll() is None:
                is_due = (
                    journalled_step(folder) >= at_step
                    if moment % 2
                    else time.monotonic() - began >= at_s
                )
                if is_due and listens(one.process.pid):
                    break
                time.sleep(0.02)
            reached = journalled_step(folder)
            one.process.send_signal(ending)
            output = one.end()
        if one.process.returncode == 0:
            print(f"{ending.name} {when}: the run was over")
            assert_same_bits(folder, undisturbed)
            continue
        assert one.process.returncode == 128 + ending, f"{when}: {output}"
        assert newest_step(folder) >= reached, f"{when}: no checkpoint of step {reached}"
        print(f"{ending.name} {when}: step {newest_step(folder)}")
        with started(f"exec {continuing(output)}", folder) as one:
            output = one.end()
        assert one.process.returncode == 0, output
        assert_same_bits(folder, undisturbed)
