"""Plans with a gate, and stores of their trials with a known truth."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.plan import Plan, Trial
from orchestrator.plan.gate import Gate, GatePlan
from orchestrator.regression.measured import Measured
from orchestrator.regression.measuring import measure
from orchestrator.report.frame import read_frame
from orchestrator.store import attempts, journals
from orchestrator.store.base import Store
from tests.scored_store import IMAGES, scored
from tests.sweeps import plan_of
from tests.written_store import START, write_end
from trainers.journal import encoded

SET = "embedded-test"
SWEEP = """# Is nothing worse?
axes:
  backbone: [swinir-tiny]
  norm: [{norms}]
  task: [sr_x2]
  width: [{widths}]
  depth: [1]
  seed: [{seeds}]
data: {{evaluate: [{sets}]}}
training: {{steps: 100, batch_size: 4, patch_size_px: 16}}
"""


def gated_plan(
    folder: Path,
    asked: Mapping[str, Any] | None = None,
    *,
    norms: Sequence[str] = ("layer_norm", "i_ln"),
    seeds: int = 5,
    widths: Sequence[int] = (12,),
    sets: Sequence[str] = (SET,),
    name: str = "gated",
    against: Mapping[str, Any] | None = None,
) -> Plan:
    """A plan whose gate judges all norms but layer_norm against it, or against another baseline.

    `asked` are fields of the gate. `against` are fields of GatePlan in place of `norm`.
    """
    text = SWEEP.format(
        norms=", ".join(norms),
        widths=", ".join(map(str, widths)),
        seeds=", ".join(map(str, range(seeds))),
        sets=", ".join(sets),
    )
    plan = plan_of(folder, text, name)
    gate = Gate.model_validate({"baseline": "layer_norm", **(asked or {})})
    labels = list(dict.fromkeys(str(t.axes["norm"]) for t in (*plan.trials, *plan.folded)))
    fields = {"norm": "layer_norm"} if against is None else dict(against)
    candidates = tuple(label for label in labels if label != fields.get("norm"))
    return replace(plan, gate=GatePlan(gate, candidates, **fields))


def measured(plan: Plan, store: Store) -> dict[tuple[str, str, str], Measured]:
    """The answers by gate, norm and place."""
    found = measure(plan, read_frame(plan, store), store)
    answers = {(one.key.gate, one.key.norm, one.key.place): one for one in found}
    assert len(answers) == len(found), "a question is asked twice"
    return answers


def only(plan: Plan, store: Store, gate: str, norm: str = "i_ln") -> Measured:
    """The answer to the only question of a gate about a norm."""
    (found,) = (one for key, one in measured(plan, store).items() if key[:2] == (gate, norm))
    return found


def write(
    store: Store,
    trial: Trial,
    *,
    psnr: Mapping[str, float] | float = 30.0,
    curve: Mapping[int, Mapping[str, float]] | None = None,
    torch: str = "2.13.0",
    commit: str = "c0ffee" * 6,
    host: str = "bench-1",
    run: str = "bench-1-17-1",
    processor: str = "a CPU",
    outcome: str = "completed",
    step: int | None = None,
    ema: bytes = b"weights",
    how: Mapping[str, Any] | None = None,
    placement: Mapping[str, Any] | None = None,
) -> None:
    """Write a trial that ended: PSNR by image or of all, and metrics by step."""
    step = trial.spec.training.steps if step is None else step
    images = psnr if isinstance(psnr, Mapping) else dict.fromkeys(IMAGES, psnr)
    lines: list[dict[str, Any]] = [{"step": 0, "kind": "event", "event": "started"}]
    for at, values in sorted((curve or {}).items()):
        said = {name: encoded(value) for name, value in values.items()}
        lines.append({"step": at, "kind": "metrics", "values": said})
    for name in trial.spec.observe.evaluate if outcome == "completed" else ():
        mean = math.fsum(images.values()) / len(images)
        values = {f"val/{name}/psnr": encoded(mean)}
        lines.append({"step": step, "kind": "metrics", "values": values})
        listed = [
            {"name": image, **{metric: encoded(score) for metric, score in scored(value).items()}}
            for image, value in sorted(images.items())
        ]
        event = {"step": step, "kind": "event", "event": "scores", "set": name}
        lines.append({**event, "border_px": 2, **(how or {}), "images": listed})
    record = {
        "host": host,
        "run": run,
        "versions": {"torch": torch},
        "commit": commit,
        "placement": dict(placement or {}),
    }
    attempt = attempts.new_attempt(store, trial, record)
    rank = {"rank": 0, "host": host, "cuda_visible_devices": "", "processor": processor}
    attempts.write_ranks(store, trial.id, attempt, [rank])
    timed = ({"seq": i, "time": START + i, **line} for i, line in enumerate(lines))
    text = "".join(json.dumps(line) + "\n" for line in timed)
    journals.put_segment(store, trial.id, attempt, 0, text.encode())
    write_end(store, trial, attempt, step, outcome, ema)


def noisy(trial: Trial, effects: Mapping[str, float], sd: float = 0.02) -> dict[str, float]:
    """PSNR of images: 30 dB, the norm's effect, an image's difficulty, and noise of the seed."""
    norm, seed = str(trial.axes["norm"]), int(trial.axes["seed"])
    rng = np.random.default_rng([seed, *norm.encode()])
    of_seed = rng.normal(0, sd)
    return {
        image: 30.0 + i + effects.get(norm, 0.0) + of_seed + rng.normal(0, sd)
        for i, image in enumerate(IMAGES)
    }


def write_all(store: Store, plan: Plan, effects: Mapping[str, float], **fields: Any) -> None:
    """Write every trial of the plan, completed; fields may be functions of the trial."""
    for trial in plan.trials:
        chosen = {name: f(trial) if callable(f) else f for name, f in fields.items()}
        write(store, trial, **{"psnr": noisy(trial, effects), **chosen})
