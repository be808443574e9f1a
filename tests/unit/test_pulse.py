"""A rank is alive while it gets on with its work, within a deadline from its own pace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.run.last_words import log_tail, stacks_of
from orchestrator.run.pulse import (
    FIRST,
    LEAST_S,
    MOST_BETWEEN_LOOKS_S,
    VARIABLE,
    Pulse,
    PulseTaker,
    deadline_s,
    hung,
    least_deadline_s,
)
from trainers.progress import EVALUATION, STARTING, STEP, Progress, read_progress


def pulse(step: int, idle_s: float, *, what: str = STEP, is_stopped: bool = False) -> Pulse:
    return Pulse(what, step, idle_s, deadline_s=60.0, least_s=60.0, is_stopped=is_stopped)


@pytest.mark.parametrize(
    ("what", "lasted", "expected"),
    [
        (STEP, [], 1800.0),  # the first one
        (STEP, [0.1, 0.2, 0.3], 60.0),
        (STEP, [1.0, 5.0, 900.0], 100.0),  # 20 x the median, whatever a single one took
        (EVALUATION, [31.0], 620.0),
        ("checkpoint", [0.1], 600.0),
        (STARTING, [], 4 * 3600.0),
    ],
)
def test_the_deadline_follows_from_what_the_ranks_own_work_took(
    what: str, lasted: list[float], expected: float
) -> None:
    assert deadline_s(what, lasted) == expected


def test_a_node_may_allow_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert least_deadline_s() == LEAST_S
    monkeypatch.setenv(VARIABLE, "300")
    assert least_deadline_s() == 300.0
    for nonsense in ("", "soon", "-1", "nan"):
        monkeypatch.setenv(VARIABLE, nonsense)
        assert least_deadline_s() == LEAST_S


class Rank:
    """A rank that writes its progress, the worker that looks at it, and a clock."""

    def __init__(self, out: Path) -> None:
        self.now = 0.0
        self.progress = Progress(out, 0)
        self.taker = PulseTaker(out, 0, least_s=10.0, clock=lambda: self.now)

    def look(self, after_s: float) -> Pulse:
        self.now += after_s
        return self.taker.take(os.getpid())


def test_the_time_of_a_step_is_taken_from_the_looks_between_which_it_ended(tmp_path: Path) -> None:
    rank = Rank(tmp_path)
    assert rank.look(1.0).deadline_s == 10.0 * 240
    rank.progress.at(STEP, 0)
    assert rank.look(1.0).deadline_s == 10.0 * FIRST
    for step in range(1, 9):  # two a second
        rank.progress.at(STEP, 2 * step - 1)
        rank.progress.at(STEP, 2 * step)
        seen = rank.look(1.0)
    assert (seen.step, seen.idle_s, seen.deadline_s) == (16, 0.0, 10.0)
    for _ in range(20):
        rank.progress.at(STEP, 17)
        seen = rank.look(4.0)
    assert seen.deadline_s == 20 * 4.0, "of its median, which is slow by now"


def test_time_in_which_nobody_looked_does_not_count(tmp_path: Path) -> None:
    """The whole run was stopped and continued, or the worker was shipping a checkpoint."""
    rank = Rank(tmp_path)
    rank.look(1.0)
    assert rank.look(3600.0).idle_s == MOST_BETWEEN_LOOKS_S


def test_the_progress_of_a_rank_is_one_line_of_one_length(tmp_path: Path) -> None:
    assert read_progress(tmp_path, 0) is None
    progress = Progress(tmp_path, 0)
    for step in (5, 10**12, 7):
        progress.at(EVALUATION, step)
        assert (tmp_path / "progress-rank-0").stat().st_size == 64
        work = read_progress(tmp_path, 0)
        assert work is not None and (work.what, work.step) == (EVALUATION, step)
    (tmp_path / "progress-rank-0").write_bytes(b"\0" * 64)
    assert read_progress(tmp_path, 0) is None


def test_one_rank_that_works_keeps_its_gang_alive() -> None:
    assert hung([]) is None
    assert hung([None, None]) is None
    assert hung([pulse(4, 61.0), pulse(4, 59.0)]) is None
    assert hung([pulse(4, 61.0), None, pulse(4, 59.0)]) is None


def test_a_gang_without_progress_hangs_and_the_rank_behind_is_named() -> None:
    assert hung([pulse(4, 61.0)])[0] == 0
    rank, said = hung([pulse(5, 61.0), pulse(4, 62.0)])
    assert rank == 1
    assert said == "rank 1 has made no progress, in step 4 for 62 s of at most 60 s"
    rank, said = hung([pulse(4, 61.0), pulse(4, 62.0)])
    assert rank is None
    assert said.startswith("no rank has made progress: rank 0 in step 4 for 61 s")
    assert hung([None, pulse(9, 61.0)])[0] == 1


def test_a_stopped_rank_is_named_though_its_peers_wait_at_the_same_step() -> None:
    stopped = pulse(4, 61.0, is_stopped=True)
    for first in (pulse(4, 61.0), pulse(4, 20.0)):
        rank, said = hung([first, stopped])
        assert rank == 1 and "its process stopped (SIGSTOP)" in said
    assert hung([pulse(4, 40.0), pulse(4, 40.0, is_stopped=True)]) is None, "it may be continued"


def test_a_stopped_process_leaves_the_stacks_of_all_its_threads(tmp_path: Path) -> None:
    program = (
        "import faulthandler, sys, threading, time\n"
        "faulthandler.enable()\n"
        "def waits_for_its_peer(): time.sleep(600)\n"
        "threading.Thread(target=waits_for_its_peer, daemon=True).start()\n"
        "print('begun', flush=True)\n"
        "waits_for_its_peer()\n"
    )
    with (tmp_path / "rank.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=log, stderr=log)
    while "begun" not in log_tail(tmp_path):
        assert process.poll() is None
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    stacks_of(process.pid, process.poll)
    assert process.returncode == -signal.SIGABRT
    assert log_tail(tmp_path).count("in waits_for_its_peer") == 2
