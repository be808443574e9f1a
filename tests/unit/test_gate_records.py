"""Gates about what trials recorded: entropy, fp16, time and memory, weights, bounds of metrics."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from orchestrator.statistics.interval import Unknown
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.gated_store import SET, gated_plan, measured, only, write
from tests.scored_store import write_evaluation

PLACE = "w12 d1 swinir-tiny"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


def plan_for(folder: Path, seeds: int = 3, **asked):
    return gated_plan(folder, {"margin": None, **asked}, seeds=seeds)


def at_the_end(**values: float) -> dict[int, dict[str, float]]:
    """Metrics of the last step, with `__` for each `/`; those before it are others."""
    named = {name.replace("__", "/"): value for name, value in values.items()}
    return {50: dict.fromkeys(named, -99.0), 100: named}


def is_candidate(trial) -> bool:
    return trial.axes["norm"] == "i_ln"


# --- entropy


def test_entropy_is_the_smallest_of_all_groups_at_the_last_step(tmp_path, store):
    plan = plan_for(tmp_path, entropy=1.0)
    lowest = {0: 1.2, 1: 1.3, 2: 1.5}
    for trial in plan.trials:
        low = lowest[trial.axes["seed"]]
        curve = at_the_end(
            feature__entropy=low + 1,
            feature__entropy__group_0=low,
            feature__entropy__group_1=low + 1,
            feature__entropy_normalised__group_0=0.01,
        )
        write(store, trial, curve=curve)
    found = only(plan, store, "entropy")
    values = np.array(list(lowest.values()))
    assert found.values == tuple(values) and found.key.place == PLACE
    assert found.pass_above == found.fail_below == 1.0
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (found.shown.low, found.shown.high) == pytest.approx((low, high))
    assert (found.shown.limit, found.shown.unit, found.shown.sense) == (1.0, "nats", "at_least")


def test_entropy_that_nobody_recorded_says_how_to(tmp_path, store):
    plan = plan_for(tmp_path, seeds=2, entropy=1.0)
    for trial in plan.trials:
        write(store, trial)
    why = only(plan, store, "entropy").values
    assert isinstance(why, Unknown) and "observe.probes" in why.reason


# --- fp16


def evaluated(store: Store, trial, share: float, precision: str = "fp16", step: int = 100) -> None:
    images = {
        name: {"psnr": 30.0, "ssim": 0.9, "non_finite": value}
        for name, value in (("a.png", 0.0), ("b.png", share))
    }
    write_evaluation(store, trial, SET, images, precision=precision, step=step)


def test_finite_evaluations_at_fp16_pass_and_one_value_fails(tmp_path, store):
    plan = plan_for(tmp_path, seeds=2, fp16="finite")
    for trial in plan.trials:
        write(store, trial)
        evaluated(store, trial, 0.0)
        evaluated(store, trial, 1.0, precision="fp16_literal")
    found = only(plan, store, "fp16")
    assert found.exact == "pass" and found.seeds == (0, 1) and len(found.trials) == 2
    assert (found.shown.value, found.shown.limit) == (0.0, 0.0)
    evaluated(store, next(t for t in plan.trials if is_candidate(t)), 0.25)
    found = only(plan, store, "fp16")
    assert found.exact == "fail"
    assert found.said == ("25.00% of an image's values are not finite on embedded-test (seed 0)")
    assert found.shown.value == 0.25


@pytest.mark.parametrize(("share", "verdict"), [(0.999, "pass"), (1.0, "fail"), (math.inf, "fail")])
def test_the_probe_of_the_range_decides_as_well(tmp_path, store, share, verdict):
    plan = plan_for(tmp_path, seeds=2, fp16="finite")
    for trial in plan.trials:
        value = share if trial.axes["seed"] else 0.1
        write(store, trial, curve=at_the_end(fp16_range__largest_share=value))
    found = only(plan, store, "fp16")
    assert found.exact == verdict
    assert found.shown.value == share and found.shown.limit == 1.0


def test_fp16_that_nobody_recorded_is_undecided_with_the_command(tmp_path, store):
    plan = plan_for(tmp_path, seeds=2, fp16="finite")
    for trial in plan.trials:
        write(store, trial)
        evaluated(store, trial, 0.0, step=50)  # not of the final weights
    found = only(plan, store, "fp16")
    trial = next(t.id for t in plan.trials if is_candidate(t))
    assert found.exact is None
    assert f"normsweep evaluate {trial} --precision fp16" in found.values.reason


# --- time and memory


def paced(seed: int, factor: float) -> dict[int, dict[str, float]]:
    """Images per second: slow at first, then about 100 with a stray record."""
    pace = (100 + seed) / factor
    return {
        step: {"train/images_per_s": value, "train/memory_gb": 2.0 * factor}
        for step, value in ((10, 3.0), (20, pace), (30, pace), (40, pace / 5), (50, pace))
    }


def test_step_time_is_the_ratio_of_medians_within_one_run(tmp_path, store):
    plan = plan_for(tmp_path, step_time=1.2, memory=1.4)
    factors = {0: 1.1, 1: 1.15, 2: 1.3}
    for trial in plan.trials:
        seed = trial.axes["seed"]
        write(store, trial, curve=paced(seed, factors[seed] if is_candidate(trial) else 1.0))
    found = measured(plan, store)
    time = found["step_time", "i_ln", PLACE]
    expected = -np.log(list(factors.values()))
    assert np.allclose(time.values, expected, rtol=1e-12)
    assert time.pass_above == time.fail_below == pytest.approx(-math.log(1.2))
    assert time.shown.value == pytest.approx(math.exp(-expected.mean()))
    assert time.shown.unit == "times" and len(time.trials) == 6
    memory = found["memory", "i_ln", PLACE]
    assert np.allclose(memory.values, expected, rtol=1e-12)


def test_memory_that_is_equal_at_all_seeds_is_decided_exactly(tmp_path, store):
    plan = plan_for(tmp_path, memory=1.4)
    for trial in plan.trials:
        write(store, trial, curve=paced(0, 1.5 if is_candidate(trial) else 1.0))
    found = only(plan, store, "memory")
    assert found.exact == "fail" and found.said == "equal at all 3 seeds, to the bit"
    assert found.shown.value == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("field", "one", "other", "said"),
    [
        ("run", "bench-1-17-1", "bench-1-18-2", "run bench-1-17-1 for i_ln, bench-1-18-2 for"),
        ("host", "bench-1", "bench-2", "host bench-1 for i_ln, bench-2 for layer_norm"),
        ("run", "", "", "run not recorded"),
        (
            "placement",
            {"micro_batch": 2},
            {"micro_batch": 4},
            "placement.micro_batch 2 for i_ln, 4 for layer_norm",
        ),
    ],
)
def test_times_of_another_run_host_or_slice_cannot_be_compared(
    tmp_path, store, field, one, other, said
):
    plan = plan_for(tmp_path, seeds=2, step_time=1.2)
    for trial in plan.trials:
        fields = {field: one if is_candidate(trial) else other}
        write(store, trial, curve=paced(0, 1.0), **fields)
    why = only(plan, store, "step_time").values
    assert isinstance(why, Unknown)
    assert why.reason.startswith("cannot be compared: seeds 0, 1: ") and said in why.reason


def test_memory_that_older_trials_did_not_record_is_undecided(tmp_path, store):
    plan = plan_for(tmp_path, seeds=2, memory=1.4)
    for trial in plan.trials:
        write(store, trial)
    why = only(plan, store, "memory").values
    assert why == Unknown("cannot be compared: seeds 0, 1: it recorded no train/memory_gb")


# --- weights


def saved(**tensors: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def test_equal_files_are_equal_weights(tmp_path, store):
    plan = plan_for(tmp_path, seeds=2, weights="equal")
    for trial in plan.trials:
        write(store, trial, ema=b"weights of seed %d" % trial.axes["seed"])
    found = only(plan, store, "weights")
    assert found.exact == "pass" and found.seeds == (0, 1) and found.shown.value == 0


def test_the_first_seed_with_other_weights_is_named(tmp_path, store):
    plan = plan_for(tmp_path, seeds=3, weights="equal")
    for trial in plan.trials:
        is_other = is_candidate(trial) and trial.axes["seed"] in (1, 2)
        write(store, trial, ema=b"other" if is_other else b"weights")
    found = only(plan, store, "weights")
    assert found.exact == "fail"
    assert found.said == "ema.pt differs at seed 1, and at 2 of 3 seeds in all"


def test_the_order_of_tensors_in_a_file_does_not_count_but_one_bit_does(tmp_path, store):
    plan = plan_for(tmp_path, seeds=1, weights="equal")
    a, b = torch.tensor([1.0, 2.0]), torch.tensor(3)
    ours, theirs = saved(a=a, b=b), saved(b=b, a=a)
    assert ours != theirs
    for trial in plan.trials:
        write(store, trial, ema=ours if is_candidate(trial) else theirs)
    assert only(plan, store, "weights").exact == "pass"
    other = open_store(str(tmp_path / "other"))
    nudged = torch.tensor([1.0, np.nextafter(np.float32(2), np.float32(3))])
    for trial in plan.trials:
        write(other, trial, ema=saved(a=nudged, b=b) if is_candidate(trial) else theirs)
    assert only(plan, other, "weights").exact == "fail"


def test_weights_of_a_trial_that_is_missing_leave_the_rest_undecided(tmp_path, store):
    plan = plan_for(tmp_path, seeds=2, weights="equal")
    for trial in plan.trials:
        if not (is_candidate(trial) and trial.axes["seed"]):
            write(store, trial)
    found = only(plan, store, "weights")
    assert found.exact is None
    assert found.values == Unknown("cannot be compared: seed 1: i_ln pending")


# --- bounds


def test_bounds_hold_the_last_value_of_any_metric(tmp_path, store):
    plan = plan_for(tmp_path, at_most={"train/loss": 0.05}, at_least={"feature/entropy": 0.5})
    for trial in plan.trials:
        seed = trial.axes["seed"]
        curve = at_the_end(train__loss=0.03 + 0.001 * seed, feature__entropy=0.7 - 0.01 * seed)
        write(store, trial, curve=curve)
    found = measured(plan, store)
    most = found["at_most train/loss", "i_ln", PLACE]
    assert most.values == pytest.approx((-0.03, -0.031, -0.032)) and most.pass_above == -0.05
    assert most.shown.value == pytest.approx(0.031) and most.shown.limit == 0.05
    assert most.shown.low < 0.031 < most.shown.high
    least = found["at_least feature/entropy", "i_ln", PLACE]
    assert least.values == pytest.approx((0.7, 0.69, 0.68)) and least.pass_above == 0.5


def test_a_metric_that_nobody_recorded_names_the_closest(tmp_path, store):
    plan = plan_for(tmp_path, seeds=2, at_most={"loss": 1.0}, at_least={"feature/entropi": 0.1})
    for trial in plan.trials:
        write(store, trial, curve=at_the_end(train__loss=0.03, feature__entropy=0.7))
    found = measured(plan, store)
    assert found["at_most loss", "i_ln", PLACE].values.reason.startswith(
        "seeds 0, 1: no trial recorded loss. Recorded are train/loss"
    )
    other = found["at_least feature/entropi", "i_ln", PLACE].values.reason
    assert "Recorded are feature/entropy" in other


def test_values_that_are_not_numbers_decide_nothing_and_infinite_ones_fail(tmp_path, store):
    plan = plan_for(tmp_path, at_most={"a": 1.0, "b": 1.0}, at_least={"b": 1.0})
    for trial in plan.trials:
        seed = trial.axes["seed"]
        values = {"a": math.nan if seed == 1 else 0.5 + seed, "b": math.inf if seed == 1 else seed}
        write(store, trial, curve=at_the_end(**values))
    found = measured(plan, store)
    a = found["at_most a", "i_ln", PLACE]
    assert a.seeds == (0, 2) and a.left_out == ("seed 1: not a number",) and a.exact is None
    b = found["at_most b", "i_ln", PLACE]
    assert b.exact == "fail" and b.said == "not finite (seed 1)"
    b = found["at_least b", "i_ln", PLACE]
    assert b.exact is None and b.left_out == ("seed 1: infinite, which no mean can hold",)
