"""Requests per minute that following a sweep costs the store: 1,000 trials, 100 running, 900 ended.

`PYTHONPATH=. python benchmarks/store_requests.py [LINES]`: every trial has journalled LINES lines
(default 3,000), one a second. It counts the requests (list, get, size) of the MLflow mirror in the
driver and of `normsweep submit --wait`, each at its own cadence; the live table makes none. They
are counted on 20 trials, 2 of them running, and scaled up, since the cost of a trial does not
depend on how many others there are. The last line gives the number of segments that the running
trials write.

It measures whichever `orchestrator` is imported. To measure an older commit, put its checkout
first: `PYTHONPATH=OLDER:. python benchmarks/store_requests.py`. Before journals were shipped by
time, each of these lines made a segment, and every pass of the mirror looked at all trials that had
not ended when the run began.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from orchestrator.cluster import follow
from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.store import attempts, open_store
from orchestrator.store.checkpoints import checkpoint_prefix, write_manifest
from orchestrator.tracking.mirror import Mirror
from tests.counted_store import CountedStore
from tests.sweeps import write_sweep

try:
    from orchestrator.run.mirroring import MIRROR_EVERY_S
except ImportError:  # an older version
    from orchestrator.run.runner import MIRROR_EVERY_S

TRIALS, RUNNING = 20, 2  # counted
MANY, MANY_RUNNING = 1_000, 100  # scaled to
IS_BEFORE = "heard" not in inspect.signature(Mirror.sync).parameters

if IS_BEFORE:
    from orchestrator.store.trials import states_of, write_result
else:
    from orchestrator.store.results import write_result


def ship_every_s() -> float:
    if IS_BEFORE:
        return 1.0  # an older version, which ships every line as it comes
    from orchestrator.run.shipping import SHIP_EVERY_S

    return SHIP_EVERY_S


class Sweep:
    """A store with ended and running trials."""

    def __init__(self, folder: Path, lines: int) -> None:
        file = write_sweep(folder, norms="layer_norm", steps=lines)
        file.write_text(file.read_text().replace("axes:", f"axes:\n  seed: {list(range(TRIALS))}"))
        self.plan: Plan = load_plan(file)
        self.root = folder / "runs"
        self.store = CountedStore(open_store(str(self.root)))
        self.running = self.plan.trials[:RUNNING]
        self._lines = dict.fromkeys((trial.id for trial in self.plan.trials), 0)
        for trial in self.plan.trials:
            attempt = attempts.new_attempt(
                self.store, trial, {"host": "bench-1", "versions": {}, "commit": ""}
            )
            attempts.say_alive(self.store, trial.id, attempt)
            self.train(trial, lines)
            if trial not in self.running:
                self._end(trial, attempt, lines)

    def train(self, trial: Trial, seconds: float) -> None:
        """Let a trial go on: it ships its lines and renews its sign of life."""
        each = round(ship_every_s())
        folder = self.root / f"trials/{trial.id}/attempts/1/journal"
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(round(seconds / each)):
            first = self._lines[trial.id]
            content = b"".join(_line(seq) for seq in range(first, first + each))
            digest = hashlib.sha256(content).hexdigest()[:16]
            (folder / f"{first:010d}-{digest}.jsonl").write_bytes(
                content
            )  # without the store's fsync
            self._lines[trial.id] += each
        attempts.say_alive(self.store, trial.id, 1)

    def _end(self, trial: Trial, attempt: int, step: int) -> None:
        self.store.put(f"{checkpoint_prefix(trial.id, step, attempt)}/ema.pt", b"weights")
        files = {"ema.pt": {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7}}
        write_manifest(
            self.store, trial.id, attempt, step=step, world_size=1, zero_stage=0, files=files
        )
        write_result(
            self.store, trial.id, attempt, sweep="s", step=step, outcome="completed", metrics={}
        )

    def asked(self) -> Counter[str]:
        """Requests since the last call: for ended trials, and for running ones."""
        running = {trial.id for trial in self.running}
        counted: Counter[str] = Counter()
        for (request, key), times in self.store.asked.items():
            if request in ("list", "get", "size"):
                counted["running" if key.split("/")[1] in running else "ended"] += times
        self.store.asked.clear()
        return counted


def _line(seq: int) -> bytes:
    record = {"seq": seq, "time": 1_764_000_000.0 + seq, "step": seq, "kind": "metrics"}
    return json.dumps({**record, "values": {"train/loss": 1 / (1 + seq)}}).encode() + b"\n"


def mirrored(sweep: Sweep, tracking: str) -> Counter[str]:
    """Requests in one pass of a mirror that has caught up."""
    mirror = Mirror(tracking, sweep.plan)
    mirror.sync(sweep.store, sweep.plan.trials)
    passes = 3
    sweep.asked()
    for _ in range(passes):
        for trial in sweep.running:
            sweep.train(trial, MIRROR_EVERY_S)
        if IS_BEFORE:
            mirror.sync(sweep.store, sweep.plan.trials)
        else:
            mirror.sync(
                sweep.store, sweep.running, heard=frozenset(trial.id for trial in sweep.running)
            )
    return Counter({which: round(times / passes) for which, times in sweep.asked().items()})


def followed(sweep: Sweep) -> Counter[str]:
    """Requests in one look of `submit --wait`, other than the first."""
    ids = [trial.id for trial in sweep.plan.trials]
    if IS_BEFORE:
        sweep.asked()
        states_of(sweep.store, ids)
        return sweep.asked()
    progress = follow.Progress()
    progress.states(sweep.store, ids)
    sweep.asked()
    progress.states(sweep.store, ids)
    return sweep.asked()


def main(lines: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(Path(folder), lines)
        print(
            f"{'who':24}{'every':>7}{'an ended trial':>16}{'a running one':>16}"
            f"{f'{MANY:,} in a minute':>20}"
        )
        total = 0.0
        looks = {
            "MLflow's mirror": (
                MIRROR_EVERY_S,
                mirrored(sweep, f"sqlite:///{folder}/mlflow.db"),
            ),
            "submit --wait": (follow.PROGRESS_EVERY_S, followed(sweep)),
        }
        for who, (every_s, asked) in looks.items():
            ended, running = asked["ended"] / (TRIALS - RUNNING), asked["running"] / RUNNING
            minute = (ended * (MANY - MANY_RUNNING) + running * MANY_RUNNING) * 60 / every_s
            total += minute
            print(f"{who:24}{every_s:5.0f} s{ended:16,.1f}{running:16,.1f}{minute:20,.0f}")
        print(f"{'together':63}{total:20,.0f}")
        written = 60 / ship_every_s()
        print(
            f"Segments that {MANY_RUNNING} running trials write in a minute: "
            f"{written * MANY_RUNNING:,.0f}."
        )


if __name__ == "__main__":
    began = time.monotonic()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000)
    print(f"Counted in {time.monotonic() - began:.0f} s.", file=sys.stderr)
