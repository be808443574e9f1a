"""Nobody can take the port where a gang meets, from its choice to the end of rank 0."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path

import pytest

from orchestrator.plan import load_plan
from orchestrator.run.gang import Assignment, Worker
from tests.sweeps import write_sweep


def is_taken(address: str, port: int) -> bool:
    with socket.socket() as other:
        # With this option only a listener is in the way.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
        return False


def test_rank_0_inherits_the_port_and_nobody_can_take_it_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (trial,) = load_plan(write_sweep(tmp_path, steps=2)).trials
    job = Assignment(
        trial.id, 1, trial.spec, str(tmp_path / "runs"), str(tmp_path / "work"), None, ()
    )
    worker = Worker(job, rank=0)
    try:
        address, port = worker.rendezvous()
        assert is_taken(address, port)
        worker.start(address, port)
        assert is_taken(address, port), "this process has closed its socket; the rank holds it"
        # A peer that is early waits in the backlog.
        socket.create_connection((address, port), timeout=5).close()
        until = time.monotonic() + 120
        while (report := worker.poll()).exit_code is None:
            assert time.monotonic() < until, "the rank does not end"
            time.sleep(0.1)
        assert report.exit_code == 0, report.log_tail
        assert not is_taken(address, port)
    finally:
        worker.end()
