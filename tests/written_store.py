"""Writes a folder store as a sweep leaves it, in milliseconds: its curves look like training."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.plan import Plan, Trial
from orchestrator.store import attempts, checkpoints, journals, results
from orchestrator.store.base import Store
from orchestrator.store.journals import Point
from trainers.catalog import METRICS
from trainers.journal import encoded

START = 1_764_000_000.0
GROWTH = {"layer_norm": 3.0, "rms_norm": 1.9, "i_ln": 0.25}
QUALITY = {"layer_norm": 0.0, "rms_norm": -0.06, "i_ln": 0.21}


def records(trial: Trial, until: int, diverge: bool) -> Iterator[dict[str, Any]]:
    """The journal of one attempt: loss every 5 steps, features every 10, PSNR every 20."""
    dice = random.Random(trial.id)
    norm, task, width = trial.axes["norm"], trial.axes["task"], trial.axes["width"]
    steps, groups = trial.spec.training.steps, trial.axes["depth"]
    kind, seq = norm.split("[")[0], 0
    base = 24.0 if task.startswith("sr") else 27.0

    def record(step: int, **fields: Any) -> dict[str, Any]:
        nonlocal seq
        seq += 1
        return {"seq": seq - 1, "time": START + step * 0.5, "step": step, **fields}

    yield record(0, kind="event", event="started")
    for step in range(0, until + 1, 5):
        done, values = step / steps, {}
        if step:
            values["train/loss"] = 0.02 + 0.09 * math.exp(-4 * done) * dice.uniform(0.85, 1.15)
            values["train/lr"] = 2e-4
        if step % 10 == 0:
            broken = diverge and step >= until
            for group in range(groups):
                size = math.exp(
                    GROWTH.get(kind, 1.0) * done * math.log(width) / 3 * (group + 1) / groups
                )
                values[f"feature/mean_square/group_{group}"] = (
                    math.inf if broken else size * dice.uniform(0.93, 1.07)
                )
                values[f"feature/max_abs/group_{group}"] = (
                    math.nan if broken else 4 * math.sqrt(size)
                )
            entropy = math.log(width) * (0.97 - 0.2 * done * GROWTH.get(kind, 1.0) / 3)
            values["feature/entropy"] = entropy
            values["feature/entropy_normalised"] = entropy / math.log(width)
        if step and (step % 20 == 0 or step == steps):
            psnr = (
                base
                + 4 * (1 - math.exp(-3 * done))
                + QUALITY.get(kind, 0.0)
                + width / 60
                + dice.uniform(-0.03, 0.03)
            )
            for metric in METRICS.names:
                value = psnr if metric == "psnr" else 1 - 2.6 / psnr
                values |= {f"val/{name}/{metric}": value for name in trial.spec.observe.evaluate}
        if values:
            yield record(
                step,
                kind="metrics",
                values={name: encoded(value) for name, value in values.items()},
            )


def mirrored(points: Iterable[Point]) -> list[tuple[str, int, int]]:
    """Metric, step and ms of what a tracker has of points: the largest group's are added."""
    sent = [(point.metric, point.step, round(point.time * 1000)) for point in points]
    largest = ("feature/mean_square/max", "feature/mean_square/log10_max")
    firsts = [(step, ms) for metric, step, ms in sent if metric == "feature/mean_square/group_0"]
    return sent + [(metric, step, ms) for step, ms in firsts for metric in largest]


def write_attempt(store: Store, trial: Trial, until: int, *, diverge: bool = False) -> int:
    """Write the next attempt's record, and its journal in two segments."""
    attempt = _begin(store, trial)
    lines = list(records(trial, until, diverge))
    for part in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
        text = "".join(json.dumps(line) + "\n" for line in part)
        journals.put_segment(store, trial.id, attempt, part[0]["seq"], text.encode())
    return attempt


def write_ended(
    store: Store,
    trial: Trial,
    *,
    outcome: str = "completed",
    until: int | None = None,
    ema: bytes = b"weights",
    stopped_by: Mapping[str, Any] | None = None,
) -> None:
    """Write a trial that has ended: an attempt, a checkpoint and result.json."""
    step = trial.spec.training.steps if until is None else until
    attempt = write_attempt(store, trial, step, diverge=outcome == "diverged")
    write_end(store, trial, attempt, step, outcome, ema, stopped_by=stopped_by)


def write_run(store: Store, trial: Trial, folder: Path) -> None:
    """Write a completed trial from the run folder that `python -m trainers` left."""
    attempt, result = _begin(store, trial), json.loads((folder / "result.json").read_text())
    journals.put_segment(store, trial.id, attempt, 0, (folder / "journal.jsonl").read_bytes())
    ema = folder / "checkpoints" / result["checkpoint"] / "ema.pt"
    write_end(store, trial, attempt, result["step"], result["outcome"], ema.read_bytes())


def _begin(store: Store, trial: Trial) -> int:
    versions = {"python": "3.11.9", "torch": "2.13.0", "deepspeed": "0.19.8", "ray": "2.60.0"}
    record = {"host": "bench-1", "versions": versions, "commit": "c0ffee" * 6, "placement": {}}
    return attempts.new_attempt(store, trial, record)


def write_end(
    store: Store,
    trial: Trial,
    attempt: int,
    step: int,
    outcome: str = "completed",
    ema: bytes = b"weights",
    metrics: Mapping[str, float] | None = None,
    stopped_by: Mapping[str, Any] | None = None,
    sweep: str = "written",
) -> None:
    """Write the final checkpoint and the result of an attempt."""
    store.put(f"{checkpoints.checkpoint_prefix(trial.id, step, attempt)}/ema.pt", ema)
    files = {"ema.pt": {"sha256": hashlib.sha256(ema).hexdigest(), "bytes": len(ema)}}
    checkpoints.write_manifest(
        store, trial.id, attempt, step=step, world_size=1, zero_stage=0, files=files
    )
    results.write_result(
        store,
        trial.id,
        attempt,
        sweep=sweep,
        step=step,
        outcome=outcome,
        metrics={name: encoded(value) for name, value in (metrics or {}).items()},
        stopped_by=stopped_by,
    )


def write_sweep(store: Store, plan: Plan) -> None:
    """Write every trial of the plan, completed."""
    for trial in plan.trials:
        write_ended(store, trial)
