"""Figures drawn in another process are those drawn here, and a killed process costs only time."""

from __future__ import annotations

import multiprocessing
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
from orchestrator.store import children, open_store
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
    begun, grown = apart.Drawing(frame), growths(frame)
    awaited = begun.finish(grown, trends(frame, grown), observations(frame))
    if killed is not None:
        started = set(psutil.Process().children()) - before
        assert started
        for process in started:
            process.send_signal(killed)
    return awaited()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: everything is drawn here")
@pytest.mark.parametrize("killed", [None, signal.SIGKILL])
@pytest.mark.parametrize("started", ["fork", "spawn"])
def test_figures_are_the_same_wherever_they_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: signal.Signals | None, started: str
) -> None:
    here = figures(tmp_path / "here")
    monkeypatch.setattr(apart, "MANY", 1)
    monkeypatch.setattr(children, "context", lambda: multiprocessing.get_context(started))
    if killed is None:
        svg, process = drawing.svg, os.getpid()
        monkeypatch.setattr(
            drawing,
            "svg",
            lambda canvas: pytest.fail("drawn here") if os.getpid() == process else svg(canvas),
        )
    there = figures(tmp_path / "there", killed)
    assert [figure.slug for figure in here] == [figure.slug for figure in there] != []
    assert here == there


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: everything is drawn here")
@pytest.mark.parametrize("started", ["fork", "spawn"])
def test_processes_that_draw_end_with_the_one_that_waits(started: str) -> None:
    script = (
        "import multiprocessing, time; import psutil; from orchestrator.store import children\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context('{started}')\n"
        "    for _ in range(2):\n"
        "        ends = context.Pipe(duplex=False)\n"
        "        args = (*ends, time.sleep, (600,))\n"
        "        context.Process(target=children._work, args=args, daemon=True).start()\n"
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
