"""Writes stores in which a claim is known to hold, to fail, or to be too close to decide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.report.claims.judging import Judged, judged
from orchestrator.report.claims.lines import Claim
from orchestrator.report.claims.material import Material
from orchestrator.report.frame import read_frame
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.scored_store import IMAGES, scored, write_evaluation, write_scored
from trainers.catalog import NORMS
from trainers.data.lookup import find_set
from trainers.data.manifests import ImageSet

STEPS = 100
SET = "embedded-test"
CONCRETE = {"sr": "sr_x2", "denoise": "denoise_25", "jpeg": "jpeg_40"}
TINY = {"hat": "hat-tiny", "drct": "drct-tiny"}
Wanted = Literal["holds", "fails", "undecided"]

# What three seeds have beside the truth: mean 0, standard deviation 1.
SPREAD = (-1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Numbers:
    """What is written for one trial."""

    slope: float = 0.0
    scalars: tuple[tuple[str, float, float], ...] = ()  # name, at step 0, at the end
    psnr: float = 30.0
    low: tuple[str, float] | None = None  # a precision, and its PSNR


def paired_sets(name: str) -> ImageSet:
    """A set of photographs that a task with pairs takes as well."""
    found = find_set(name)
    return replace(found, lq_files=found.files)


def plan_for(folder: Path, claim: Claim, **changes: Any) -> Plan:
    """A sweep of three seeds with all that a claim names; `changes` are axes."""
    tasks = [CONCRETE.get(task.name, task.name) for task in claim.tasks] or ["sr_x2"]
    axes = {
        "backbone": [TINY.get(name, name) for name in claim.backbones] or ["swinir-tiny"],
        "norm": [norm.model_dump() for norm in claim.norms_named],
        "task": tasks,
        "width": [12],
        "depth": [1],
        "seed": [0, 1, 2],
    }
    if (measure := getattr(claim, "measure", None)) in ("width", "depth"):
        axes[measure] = [12, 24, 36, 48] if measure == "width" else [1, 2, 3, 4]
    sweep = {
        "axes": axes | changes,
        "data": {"evaluate": [SET]},
        "training": {"steps": STEPS, "batch_size": 4, "patch_size_px": 16},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "claimed.yaml"
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return load_plan(path, paired_sets)


def judge(plan: Plan, store: Store, claim: Claim) -> Judged:
    return judged(claim, Material(plan, read_frame(plan, store)))


def write_claimed(folder: Path, claim: Claim, wanted: Wanted, **changes: Any) -> tuple[Plan, Store]:
    """A plan, and a store of all its trials in which the claim has this verdict."""
    plan, store = plan_for(folder, claim, **changes), open_store(str(folder / "runs"))
    for trial in plan.trials:
        write_trial(store, trial, numbers_for(claim, trial, wanted))
    return plan, store


def numbers_for(claim: Claim, trial: Trial, wanted: Wanted) -> Numbers:
    """A trial's numbers, with the truth on the right side of the threshold, or near it."""
    given: Any = claim
    noise = SPREAD[trial.axes["seed"] % len(SPREAD)]
    side = {"holds": 1.0, "fails": -1.0, "undecided": 0.1}[wanted]
    if claim.statistic in ("growing", "bounded"):
        sign = 1 if claim.statistic == "growing" else -1
        spread = 0.5 if wanted == "undecided" else 0.02
        return Numbers(slope=given.margin + 0.5 * side * sign + spread * noise)
    if claim.statistic == "trend":
        return Numbers(slope=_slope_of_size(given, trial, wanted) + 0.001 * noise)
    is_candidate = not hasattr(given, "candidate") or _is_one_of(trial, given.candidate)
    if claim.statistic == "growth_difference":
        towards = side if given.above is not None else -side
        spread = 0.5 if wanted == "undecided" else 0.02
        return Numbers(slope=0.5 * towards + spread * noise if is_candidate else 0.0)
    if claim.statistic in ("scalar", "scalar_change", "scalar_difference"):
        threshold = given.above if given.above is not None else given.below
        direction = 1 if given.above is not None else -1
        spread = 0.1 if wanted == "undecided" else 0.01
        value = threshold + 0.2 * direction * side + spread * noise if is_candidate else 0.0
        base = 0.4 if is_candidate or claim.statistic == "scalar_difference" else 0.0
        if claim.statistic == "scalar":
            base = 0.0
        return Numbers(scalars=((given.metric, base, base + value),))
    spread = 0.1 if wanted == "undecided" else 0.01
    value = 0.2 * side + spread * noise
    if claim.statistic == "precision_loss":
        loss = 3.0 - (given.above + value if is_candidate else 0.0)
        return Numbers(low=(given.precision, 30.0 - loss))
    margin = given.margin if given.question == "superiority" else -given.margin
    if given.question == "equivalence":
        margin = 0.0
        value = {"holds": 0.0, "fails": 3 * given.margin, "undecided": 0.9 * given.margin}[wanted]
        value += spread * noise * given.margin
    return Numbers(psnr=30.0 + (margin + value if is_candidate else 0.0))


def _slope_of_size(claim: Any, trial: Trial, wanted: Wanted) -> float:
    """The slope of a curve t^slope whose growth is size^2, size^-2, or without order."""
    size = float(trial.axes[claim.measure])
    if wanted == "undecided":
        at = {12.0: 0.3, 24.0: -0.2, 36.0: 0.1, 48.0: -0.1}
        return at.get(size, {1.0: 0.3, 2.0: -0.2, 3.0: 0.1, 4.0: -0.1}.get(size, 0.0))
    power = 2.0 if wanted == "holds" else -2.0
    bent = 0.02 * math.cos(size)  # so that the sizes are not exactly on a line
    return (power * math.log10(size) + bent) / math.log10(STEPS)


def _is_one_of(trial: Trial, norms: Any) -> bool:
    made = trial.spec.model.norm
    return any((made.name, made.knobs) == NORMS.resolve(n.name, n.knobs) for n in norms)


def write_trial(store: Store, trial: Trial, numbers: Numbers, **how: Any) -> None:
    """Write a completed trial with these numbers; an image's difficulty is the same for all."""
    jitter = (trial.axes["seed"] + 1) * 0.001

    def images(psnr: float) -> dict[str, dict[str, float]]:
        return {
            image: scored(psnr + 2.0 * i + jitter * (-1) ** i) for i, image in enumerate(IMAGES[:4])
        }

    write_scored(
        store, trial, {SET: images(numbers.psnr)}, other_points=list(_points(numbers)), **how
    )
    if numbers.low is not None:
        precision, psnr = numbers.low
        # At half precision alone, as `normsweep evaluate` does.
        write_evaluation(store, trial, SET, images(psnr), precision=precision)


def _points(numbers: Numbers) -> Iterator[dict[str, Any]]:
    for step in range(0, STEPS + 1, 10):
        value = 3.0 * step**numbers.slope if step else 3.0
        values = {"feature/mean_square/group_0": value / 2, "feature/mean_square/group_1": value}
        for name, start, end in numbers.scalars:
            values[name] = start + (end - start) * step / STEPS
        yield {"step": step, "kind": "metrics", "values": values}
