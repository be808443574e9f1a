"""What an MLflow that is away costs the process that drives a run: CPU of its thread for MLflow.

`PYTHONPATH=. python benchmarks/mlflow_away.py [SECONDS]`: for so long (default 70) a trial journals
50 lines a second beside a server that accepts connections and never answers, then beside one that
refuses them. Ranks are other processes and do not talk to MLflow, so this is all that it can take
from them, and no more than its share of one core.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.plan import Plan, load_plan
from orchestrator.plan.states import State
from orchestrator.run import mirroring
from orchestrator.run.options import RunOptions
from orchestrator.run.progress import Progress
from orchestrator.store import attempts, journals, open_store
from tests.sweeps import write_sweep

LINES, EVERY_S = 100, 2.0


def share(plan: Plan, runs: Path, port: int, seconds: float) -> float:
    """The CPU time of the thread, as a share of the time that passed."""
    store, trial = open_store(str(runs)), plan.trials[0]
    options = RunOptions(store.uri, f"http://127.0.0.1:{port}")
    attempt, seq = attempts.new_attempt(store, trial, {"host": "bench-1"}), 0
    with (
        Progress(plan, {}, quiet=True, json_lines=False) as progress,
        mirroring.Follower(plan, store, options, {}, frozenset(), progress) as follower,
    ):
        ident = follower.thread.ident
        assert ident is not None
        clock = time.pthread_getcpuclockid(ident)
        began, used = time.monotonic(), time.clock_gettime(clock)
        while time.monotonic() - began < seconds:
            lines = [_line(at) for at in range(seq, seq + LINES)]
            journals.put_segment(store, trial.id, attempt, seq, "".join(lines).encode())
            seq += LINES
            progress.changed(trial.id, State.RUNNING)
            time.sleep(EVERY_S)
        return (time.clock_gettime(clock) - used) / (time.monotonic() - began)


def _line(seq: int) -> str:
    record = {"seq": seq, "time": time.time(), "step": seq, "kind": "metrics"}
    return json.dumps({**record, "values": {"train/loss": 0.5}}) + "\n"


def main(seconds: float) -> None:
    mirroring.SENT_WITHIN_S = 0.1  # the end is not what is measured
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0), backlog=1_000) as silent,
    ):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nobody = closed.getsockname()[1]
        plan = load_plan(write_sweep(Path(folder), steps=100_000))
        for what, port in (("never answers", silent.getsockname()[1]), ("refuses", nobody)):
            found = share(plan, Path(folder, what), port, seconds)
            print(f"{what}: {100 * found:.3f} % of a core")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 70.0)
