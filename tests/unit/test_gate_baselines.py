"""Candidates beside a baseline file, or beside another sweep."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.plan import load_plan
from orchestrator.plan.gate import Gate, GatePlan
from orchestrator.regression.baseline import read_baseline, write_baseline
from orchestrator.report.frame import read_frame
from orchestrator.statistics.interval import Unknown
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.gated_store import SET, gated_plan, measured, noisy, only, write, write_all

PLACE = f"{SET}, w12 d1 swinir-tiny"
DATE = "2026-11-29"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


def baseline_of(folder: Path, effects, name: str = "kept", **fields) -> Path:
    """A baseline file of three seeds of both norms, from a store of its own."""
    plan = gated_plan(folder, seeds=3)
    kept = open_store(str(folder / f"{name}-store"))
    write_all(kept, plan, effects, **fields)
    path = folder / f"{name}.json"
    write_baseline(path, plan, read_frame(plan, kept), kept, date=DATE)
    return path


def test_each_candidate_is_compared_with_the_same_norm_of_the_file(tmp_path, store):
    path = baseline_of(tmp_path, {})
    plan = gated_plan(tmp_path, seeds=3, against={"file": path})
    write_all(store, plan, {"i_ln": -0.3})  # the noise is that of the file's trials
    found = measured(plan, store)
    worse, same = found["psnr", "i_ln", PLACE], found["psnr", "layer_norm", PLACE]
    assert worse.values == pytest.approx((-0.3,) * 3) and worse.seeds == (0, 1, 2)
    assert worse.shown.value == pytest.approx(-0.3)
    assert same.values == (0.0, 0.0, 0.0) and same.exact == "pass"
    ids = {t.axes["norm"]: set() for t in plan.trials}
    for trial in plan.trials:
        ids[trial.axes["norm"]].add(trial.id)
    assert set(worse.trials) == ids["i_ln"]  # the file's have the same ids


def test_the_interval_is_that_of_trials_of_one_sweep(tmp_path, store):
    path = baseline_of(tmp_path, {})
    plan = gated_plan(tmp_path, norms=("i_ln",), seeds=3, against={"file": path})
    drops = (-0.2, -0.3, -0.45)
    for trial in plan.trials:
        shift = drops[trial.axes["seed"]]
        write(store, trial, psnr={k: v + shift for k, v in noisy(trial, {}).items()})
    found = only(plan, store, "psnr")
    error = np.std(drops, ddof=1) / math.sqrt(3)
    assert found.interval.high == pytest.approx(np.mean(drops) + 4.302652729911275 * error)


def test_what_cannot_be_compared_with_a_file_is_said(tmp_path, store):
    path = baseline_of(tmp_path, {}, torch="2.12.0")
    plan = gated_plan(tmp_path, norms=("i_ln", "rms_norm"), seeds=3, against={"file": path})
    write_all(store, plan, {})
    assert only(plan, store, "psnr").values == Unknown(
        "cannot be compared: seeds 0, 1, 2: torch 2.13.0 for i_ln, 2.12.0 for i_ln of kept.json"
    )
    assert only(plan, store, "psnr", "rms_norm").values == Unknown(
        "cannot be compared: no rms_norm of kept.json here"
    )


def test_other_steps_than_the_files_cannot_be_compared(tmp_path, store):
    path = baseline_of(tmp_path, {})
    plan = gated_plan(tmp_path, norms=("i_ln",), seeds=3, against={"file": path})
    longer = tmp_path / "longer.yaml"
    longer.write_text(plan.path.read_text().replace("steps: 100", "steps: 200"))
    plan = replace(load_plan(longer), gate=plan.gate)
    write_all(store, plan, {})
    why = only(plan, store, "psnr").values
    assert isinstance(why, Unknown)
    assert "training.steps 200 for i_ln, 100 for i_ln of kept.json" in why.reason


def test_unequal_seeds_pair_the_common_ones(tmp_path, store):
    path = baseline_of(tmp_path, {})
    plan = gated_plan(tmp_path, norms=("i_ln",), seeds=5, against={"file": path})
    write_all(store, plan, {})
    found = only(plan, store, "psnr")
    assert found.seeds == (0, 1, 2)
    assert found.left_out == ("seeds 3, 4: no i_ln of kept.json",)


def test_parameters_and_weights_are_compared_with_the_file(tmp_path, store):
    def ema(trial):
        return b"weights of seed %d" % trial.axes["seed"]

    path = baseline_of(tmp_path, {}, ema=ema)
    asked = {"parameters": "equal", "weights": "equal", "step_time": 1.1}
    plan = gated_plan(tmp_path, asked, norms=("i_ln",), seeds=3, against={"file": path})
    write_all(store, plan, {}, ema=lambda t: b"x" if t.axes["seed"] == 2 else ema(t))
    parameters, weights, time = (
        only(plan, store, gate) for gate in ("parameters", "weights", "step_time")
    )
    assert parameters.exact == "pass" and parameters.shown.limit == plan.trials[0].parameters
    assert weights.exact == "fail" and weights.said.startswith("ema.pt differs at seed 2")
    assert "a baseline file has no part in this run" in time.values.reason


def test_the_setup_changes_with_the_content_of_the_file(tmp_path, store):
    setups = set()
    for effect, name in ((0.0, "one"), (0.0, "one"), (0.1, "two")):
        path = baseline_of(tmp_path, {"i_ln": effect}, name)
        plan = gated_plan(tmp_path, seeds=3, against={"file": path})
        setups.add(only(plan, store, "psnr").setup)
    assert len(setups) == 2


# --- another sweep


def test_each_candidate_is_compared_with_the_same_norm_of_another_sweep(tmp_path, store):
    other = gated_plan(tmp_path, seeds=3, name="reference", norms=("i_ln", "rms_norm"))
    write_all(store, other, {"i_ln": 0.3}, commit="a" * 40)
    # Longer names for the same trials: knobs spelled out, and an axis of the recipe.
    file = tmp_path / "mine.yaml"
    file.write_text(
        other.path.read_text()
        .replace("norm: [i_ln, rms_norm]", "norm: [{name: i_ln, eps: 1.0e-4}]\n  lr: [2.0e-4]")
        .replace("seed: [0, 1, 2]", "seed: [1, 2, 3]")
    )
    plan = load_plan(file)
    gate = Gate.model_validate({"baseline": "reference.yaml"})
    label = plan.trials[0].axes["norm"]
    plan = replace(plan, gate=GatePlan(gate, (label,), sweep=other.path))
    own = {trial.id for trial in plan.trials}
    assert own & {trial.id for trial in other.trials}  # without a gate they are the same trials
    for trial in plan.trials:
        if trial.axes["seed"] == 3:
            write(store, trial)
    found = only(plan, store, "psnr", label)
    assert found.seeds == (1, 2) and found.values == (0.0, 0.0) and found.exact == "pass"
    assert found.left_out == (
        "seed 0: i_ln[eps=0.0001] not in the sweep",
        "seed 3: no i_ln[eps=0.0001] of reference.yaml",
    )


def test_a_sweep_that_trained_longer_cannot_be_compared_with(tmp_path, store):
    other = gated_plan(tmp_path, seeds=2, name="reference")
    other.path.write_text(other.path.read_text().replace("steps: 100", "steps: 200"))
    write_all(store, load_plan(other.path), {})
    plan = gated_plan(tmp_path, seeds=2, norms=("i_ln",), against={"sweep": other.path})
    write_all(store, plan, {})
    why = only(plan, store, "psnr").values
    assert isinstance(why, Unknown)
    assert "training.steps 100 for i_ln, 200 for i_ln of reference.yaml" in why.reason


def test_times_of_another_sweep_are_of_another_run(tmp_path, store):
    other = gated_plan(tmp_path, seeds=2, name="reference")
    write_all(store, other, {}, run="monday")
    file = tmp_path / "mine.yaml"
    gate = "gate: {baseline: reference.yaml, candidates: [i_ln], step_time: 1.2}\n"
    file.write_text(other.path.read_text() + gate)
    plan = load_plan(file)
    assert not {t.id for t in plan.trials} & {t.id for t in other.trials}
    write_all(store, plan, {"i_ln": -0.2}, run="tuesday")
    assert only(plan, store, "psnr").values == pytest.approx((-0.2, -0.2))
    assert only(plan, store, "psnr").trials == tuple(
        sorted(t.id for t in (*plan.trials, *other.trials) if t.axes["norm"] == "i_ln")
    )
    assert only(plan, store, "step_time").values == Unknown(
        "cannot be compared: seeds 0, 1: run tuesday for i_ln, monday for i_ln of reference.yaml"
    )


def test_the_file_is_read_back_as_it_was_written(tmp_path):
    kept = read_baseline(baseline_of(tmp_path, {}))
    assert (kept.sweep, kept.date, len(kept.trials)) == ("gated", DATE, 6)
