"""A trial without training, to measure what is around it (benchmarks/ten_thousand.py).

In place of a rank's process there is a timer: after a while it leaves what a rank leaves that has
trained one step. The trainable, the worker and the store are the product's.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from orchestrator.run import gang
from orchestrator.run.jobs import Jobs
from orchestrator.run.ranks import Rank
from orchestrator.run.trainable import GangTrainable

SECONDS = "NORMSWEEP_STAND_IN_S"  # the variable that gives the time of a trial
WEIGHTS = b"weights"


def seconds() -> float:
    return float(os.environ[SECONDS])


class Timer:
    """Stands in for the process of a rank whose run folder is `out`."""

    def __init__(self, out: Path) -> None:
        self.pid = os.getpid()
        self._out = out
        self._until = time.monotonic() + seconds()
        self._exit_code: int | None = None

    def poll(self) -> int | None:
        if self._exit_code is None and time.monotonic() >= self._until:
            write_step(self._out)
            self._exit_code = 0
        return self._exit_code

    def wait(self) -> int:
        return self._exit_code or 0

    def send_signal(self, number: int) -> None:
        if self._exit_code is None:
            self._exit_code = -number

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def write_step(out: Path) -> None:
    """Write what a rank writes in one step: two lines, a checkpoint and the result."""
    about = {"seq": 0, "time": time.time(), "step": 1, "kind": "event", "event": "started"}
    values = {"seq": 1, "time": time.time(), "step": 1, "kind": "metrics"}
    lines = (about, values | {"values": {"train/loss": 0.1}})
    (out / "journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    folder = out / "checkpoints/step-00000001"
    folder.mkdir(parents=True)
    (folder / "ema.pt").write_bytes(WEIGHTS)
    files = {"ema.pt": {"sha256": hashlib.sha256(WEIGHTS).hexdigest(), "bytes": len(WEIGHTS)}}
    manifest = {"step": 1, "world_size": 1, "zero_stage": 0, "files": files}
    (folder / "manifest.rank-0.json").write_text(json.dumps(manifest))
    result = {"outcome": "completed", "step": 1, "metrics": {"train/loss": 0.1}}
    (out / "result.json").write_text(json.dumps(result))


class Timers:
    """Stands in for orchestrator.run.ranks.Ranks: it warms no process."""

    def __init__(self, environment: Mapping[str, str], *, cuda: bool) -> None:
        pass

    def start(self, arguments: object, own: object, log: Path, listening: object = None) -> Rank:
        log.touch()
        return Timer(log.parent)

    def end(self) -> None:
        pass


class Worker(gang.Worker):
    """The product's worker, whose rank is a timer."""

    def __init__(self, assignment: gang.Assignment, rank: int) -> None:
        gang.Ranks = Timers  # in this actor's process alone
        super().__init__(assignment, rank)


class Trainable(GangTrainable):
    """The product's trainable, whose gang has such workers."""

    def setup(self, config: dict[str, Any], jobs: Jobs) -> None:
        gang.Worker = Worker  # in this actor's process alone
        super().setup(config, jobs)


class Sleep(tune.Trainable):
    """What plain Ray Tune runs beside it: a trial that sleeps for as long."""

    def step(self) -> dict[str, Any]:
        time.sleep(seconds())
        return {"done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True
