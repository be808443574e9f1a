"""Ranks are started and ended whatever their warm process does. Neither is a real one here."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.run import kept, ranks, trainable
from orchestrator.run.gang import Assignment
from tests.tiny import tiny_spec
from trainers import warm

FAKE = """\
import os, sys, time
print("rank", os.environ["RANK"], *sys.argv[1:-2], os.environ.get("NORMSWEEP_LISTEN_FD"))
"""


def environment(folder: Path, server: str) -> dict[str, str]:
    """Of ranks whose package `trainers` is a fake: this server, and a rank that says its flags."""
    (folder / "trainers").mkdir()
    (folder / "trainers/__init__.py").write_text("")
    (folder / "trainers/warm.py").write_text(server)
    (folder / "trainers/__main__.py").write_text(FAKE)
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("print('no memory left'); raise SystemExit(3)", "exit code 3; this one is started afresh"),
        ("import time; time.sleep(60)", "did not answer; this one is started afresh"),
    ],
    ids=["ends", "hangs"],
)
def test_a_rank_starts_afresh_where_none_can_be_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, says: str
) -> None:
    monkeypatch.setattr(ranks, "FORK_WITHIN_S", 0.5)
    started = ranks.Ranks(environment(tmp_path, server), cuda=False)
    log = tmp_path / "rank.log"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        rank = started.start(["spec.json", "--out", "x"], {"RANK": "1"}, log, listening)
        assert rank.wait() == 0
        said = log.read_text()
        assert says in said
        assert f"rank 1 spec.json --out x {listening.fileno()}" in said
    again = started.start(["other.json"], {"RANK": "0"}, log)
    assert again.wait() == 0
    assert log.read_text() == "rank 0 other.json None\n", "it is not tried, nor said, again"
    started.end()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The other end of a warm process's socket, whose ranks run their argument as Python."""

    def rank(arguments: list[str], environment: dict[str, str], *_: object) -> None:
        try:
            exec(arguments[0])
        finally:
            os._exit(1)

    monkeypatch.setattr(warm, "_rank", rank)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if (pid := os.fork()) == 0:
        ours.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # other tests may have set a handler
        try:
            warm.serve(theirs)
        finally:
            os._exit(0)
    theirs.close()
    yield ours
    ours.close()
    assert os.waitpid(pid, 0)[1] == 0, "it ends when its user does"


def started(connection: socket.socket, code: str) -> ranks.Forked:
    with open(os.devnull, "wb") as log:
        rank = ranks.fork(connection, [code], {}, [log.fileno()])
    assert rank is not None
    return rank


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_forked_ranks_end_with_their_exit_code_or_signal(server: socket.socket) -> None:
    for code in (0, 75, 0, 2):
        rank = started(server, f"os._exit({code})")
        assert rank.wait() == code
        assert rank.poll() == code
        rank.kill()  # is nothing to one that has ended
    rank = started(server, "time.sleep(60)")
    assert rank.poll() is None
    rank.send_signal(signal.SIGTERM)
    assert rank.wait() == -signal.SIGTERM
    rank = started(server, "time.sleep(60)")
    rank.kill()
    wait_until(lambda: rank.poll() is not None)
    assert rank.poll() == -signal.SIGKILL


def test_a_forked_rank_ends_with_whoever_started_it(server: socket.socket) -> None:
    rank = started(server, "time.sleep(60)")
    handle = os.pidfd_open(rank.pid)
    server.close()
    assert select.select([handle], [], [], 30)[0], "the rank is gone"
    os.close(handle)


def test_a_command_is_written_over_the_warm_processs() -> None:
    code = (
        "from pathlib import Path; from trainers import warm\n"
        "warm._show(['python', '-m', 'trainers', 'a b', 'é'])\n"
        "print(Path('/proc/self/cmdline').read_bytes().rstrip(b'\\0').split(b'\\0'))\n"
        "warm._show(['x' * 9000]); print(len(Path('/proc/self/cmdline').read_bytes()) < 9000)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, warm.ROOM], capture_output=True, text=True, check=True
    ).stdout
    words = ["python", "-m", "trainers", "a b", "é"]
    assert said.splitlines() == [str([word.encode() for word in words]), "True"]


def test_a_trial_that_cannot_begin_in_a_kept_actor_fails_where_tune_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def setup(self: trainable.GangTrainable, config: dict, jobs: object) -> None:
        self._ended = False
        raise OSError("the store is away")

    kept_actor = object.__new__(trainable.GangTrainable)
    kept_actor._ended, kept_actor._jobs = True, None
    monkeypatch.setattr(trainable.GangTrainable, "setup", setup)
    assert kept_actor.reset_config({"trial": "next"})
    with pytest.raises(OSError, match="the store is away"):
        kept_actor.step()
    kept_actor.save_and_end()  # records nothing about the trial before


class Before:
    """A gang that has trained a trial."""

    def __init__(self, **placement: object) -> None:
        self.spec = tiny_spec(placement=placement)
        self.nodes = frozenset({"here"})
        self.calls: list[str] = []
        self.has_ended = False

    def take(self, assignment: Assignment, waiting: Callable[[], None]) -> None:
        self.calls.append("take")

    def end(self) -> None:
        self.calls.append("end")


@pytest.mark.parametrize(
    ("placement", "draining", "calls"),
    [
        ({}, set(), ["take"]),
        ({"zero_stage": 2}, set(), ["take"]),
        ({}, {"elsewhere"}, ["take"]),
        ({}, {"here"}, ["end"]),
        ({"workers": 2}, set(), ["end"]),
        ({"cpus_per_worker": 2}, set(), ["end"]),
    ],
)
def test_a_gang_is_kept_where_its_workers_fit_the_next_trial(
    monkeypatch: pytest.MonkeyPatch, placement: dict, draining: set[str], calls: list[str]
) -> None:
    monkeypatch.setattr(kept, "draining_nodes", lambda: draining)
    monkeypatch.setattr(kept, "Gang", lambda *_: "a new one")
    before = Before()
    job = Assignment("t", 1, tiny_spec(placement=placement), "runs", None, None, ())
    found = kept.gang_for(job, lambda: None, before)
    assert before.calls == calls
    assert found is (before if calls == ["take"] else "a new one")
