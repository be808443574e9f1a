"""Figures drawn in another process are those drawn here, and a killed process costs only time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orchestrator.report import apart, drawing
from orchestrator.report.blocks import Figure
from orchestrator.report.frame import read_frame
from orchestrator.report.growths import growths, trends
from orchestrator.report.observations import observations
from orchestrator.store import open_store
from tests import damage
from tests.sweeps import plan_of
from tests.written_store import write_ended


def figures(folder: Path, killed: signal.Signals | None = None) -> list[Figure]:
    """The figures of a small sweep, drawn where `apart.MANY` says."""
    folder.mkdir()
    plan, store = plan_of(folder, damage.SWEEP), open_store(str(folder / "runs"))
    for trial in plan.trials:
        write_ended(store, trial)
    frame = read_frame(plan, store)
    before = set(psutil.Process().children())
    with apart.Drawing(frame) as drawing:
        grown = growths(frame)
        awaited = drawing.finish(grown, trends(frame, grown), observations(frame))
        if killed is not None:
            started = set(psutil.Process().children()) - before
            assert started
            for process in started:
                process.send_signal(killed)
        return awaited()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: everything is drawn here")
@pytest.mark.parametrize("killed", [None, signal.SIGKILL])
def test_figures_are_the_same_wherever_they_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: signal.Signals | None
) -> None:
    here = figures(tmp_path / "here")
    monkeypatch.setattr(apart, "MANY", 1)
    if killed is None:  # in this process
        monkeypatch.setattr(drawing, "svg", lambda canvas: pytest.fail("drawn here"))
    there = figures(tmp_path / "there", killed)
    assert [figure.slug for figure in here] == [figure.slug for figure in there] != []
    assert here == there


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: everything is drawn here")
def test_the_process_that_draws_ends_with_the_one_that_waits() -> None:
    script = (
        "import time; import psutil; from orchestrator.report import apart\n"
        "if __name__ == '__main__':\n"
        "    pool = apart.pool_of_one(); pool.submit(abs, 1).result()\n"
        "    print(*(one.pid for one in psutil.Process().children()), flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as waiting:
        assert waiting.stdout is not None
        drawing_pids = [int(pid) for pid in waiting.stdout.readline().split()]
        waiting.kill()
    assert drawing_pids
    _, left = psutil.wait_procs([p for p in map(_process, drawing_pids) if p], timeout=30)
    assert not left


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
