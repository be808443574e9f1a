"""A folder store as a sweep leaves it, written by hand: curves that look like training, in milliseconds."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.plan.expand import Plan, Trial

START = 1_764_000_000.0
GROWTH = {"layer_norm": 3.0, "rms_norm": 1.9, "i_ln": 0.25}
QUALITY = {"layer_norm": 0.0, "rms_norm": -0.06, "i_ln": 0.21}


def encoded(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


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
                size = math.exp(GROWTH.get(kind, 1.0) * done * math.log(width) / 3 * (group + 1) / groups)
                values[f"feature/mean_square/group_{group}"] = math.inf if broken else size * dice.uniform(0.93, 1.07)
                values[f"feature/max_abs/group_{group}"] = math.nan if broken else 4 * math.sqrt(size)
            entropy = math.log(width) * (0.97 - 0.2 * done * GROWTH.get(kind, 1.0) / 3)
            values["feature/entropy"] = entropy
            values["feature/entropy_normalised"] = entropy / math.log(width)
        if step % 20 == 0 and step:
            psnr = (
                base + 4 * (1 - math.exp(-3 * done)) + QUALITY.get(kind, 0.0) + width / 60 + dice.uniform(-0.03, 0.03)
            )
            values |= {f"val/{name}/psnr": psnr for name in trial.spec.observe.evaluate}
            values |= {f"val/{name}/ssim": 1 - 2.6 / psnr for name in trial.spec.observe.evaluate}
        if values:
            yield record(step, kind="metrics", values={name: encoded(value) for name, value in values.items()})


def write_attempt(
    store: Path, trial: Trial, attempt: int, until: int, *, diverge: bool = False
) -> list[dict[str, Any]]:
    """An attempt's record and its journal, in two segments."""
    folder = store / "trials" / trial.id / "attempts" / str(attempt)
    versions = {"python": "3.11.9", "torch": "2.13.0", "deepspeed": "0.19.8", "ray": "2.60.0"}
    _json(
        folder / "attempt.json",
        {
            "attempt": attempt,
            "host": "bench-1",
            "time": START,
            "versions": versions,
            "commit": "c0ffee" * 6,
            "placement": {},
        },
    )
    lines = list(records(trial, until, diverge))
    (folder / "journal").mkdir()
    for part in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
        text = "".join(json.dumps(line) + "\n" for line in part)
        (folder / "journal" / f"{part[0]['seq']:010d}.jsonl").write_text(text)
    return lines


def write_ended(
    store: Path, trial: Trial, *, outcome: str = "completed", until: int | None = None, attempt: int = 0
) -> None:
    """A trial with its result: the journal, a checkpoint and result.json."""
    step = trial.spec.training.steps if until is None else until
    folder = store / "trials" / trial.id
    _json(folder / "spec.json", json.loads(trial.spec.to_json()))
    lines = write_attempt(store, trial, attempt, step, diverge=outcome == "diverged")
    name = f"step-{step:08d}-{attempt}"
    weights = b"weights"
    files = {"ema.pt": {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}}
    _json(
        folder / "checkpoints" / name / "manifest.json",
        {"step": step, "attempt": attempt, "world_size": 1, "zero_stage": 0, "files": files},
    )
    (folder / "checkpoints" / name / "ema.pt").write_bytes(weights)
    journal = {
        f"trials/{trial.id}/attempts/{attempt}/journal/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "attempts" / str(attempt) / "journal").iterdir())
    }
    result = {
        "outcome": outcome,
        "step": step,
        "trial": trial.id,
        "attempt": attempt,
        "ended": START + step,
        "checkpoint": {"name": name, "files": files},
        "journal": journal,
        "metrics": lines[-1].get("values", {}),
    }
    canonical = json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    _json(folder / "result.json", {**result, "content_sha256": hashlib.sha256(canonical.encode()).hexdigest()})


def write_sweep(store: Path, plan: Plan) -> None:
    """Every trial of the plan, completed."""
    for trial in plan.trials:
        write_ended(store, trial)
