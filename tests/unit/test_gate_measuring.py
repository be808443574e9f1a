"""What a gate measures: in stores of a known truth, and where numbers are missing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from orchestrator.regression.measuring import measure
from orchestrator.report.frame import read_frame
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.store import attempts, open_store
from orchestrator.store.base import Store
from tests.gated_store import SET, gated_plan, measured, noisy, only, write, write_all

PLACE = f"{SET}, w12 d1 swinir-tiny"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


def grown(start: float, end: float) -> dict[int, dict[str, float]]:
    """Mean squares of two groups at step 0, half-way and the end; the second is the larger."""
    middle = math.sqrt(start * end)
    return {
        step: {"feature/mean_square/group_0": value / 2, "feature/mean_square/group_1": value}
        for step, value in ((0, start), (50, middle), (100, end))
    }


# --- scores


def test_a_true_drop_is_measured_with_the_interval_of_t_over_seeds(tmp_path, store):
    plan = gated_plan(tmp_path)
    write_all(store, plan, {"i_ln": -0.3})
    found = measured(plan, store)["psnr", "i_ln", PLACE]
    by_norm = {
        norm: np.array(
            [
                list(noisy(trial, {"i_ln": -0.3}).values())
                for trial in plan.trials
                if trial.axes["norm"] == norm
            ]
        )
        for norm in ("layer_norm", "i_ln")
    }
    expected = (by_norm["i_ln"] - by_norm["layer_norm"]).mean(axis=1)
    assert found.key.task == "sr_x2"
    assert found.seeds == (0, 1, 2, 3, 4)
    assert np.allclose(found.values, expected, rtol=0, atol=1e-12)
    assert (found.pass_above, found.fail_below) == (-0.1, 0.0)
    assert isinstance(found.interval, Interval)
    low, high = stats.t.interval(0.95, 4, expected.mean(), stats.sem(expected))
    assert found.interval.low == pytest.approx(low)
    assert found.interval.high == pytest.approx(high) and high < -0.1
    assert found.shown.value == pytest.approx(expected.mean(), abs=1e-12)
    assert (found.shown.low, found.shown.limit) == (found.interval.low, -0.1)
    assert (found.shown.unit, found.shown.sense) == ("dB", "at_least")
    assert found.trials == tuple(sorted(trial.id for trial in plan.trials))
    assert found.exact is None and found.left_out == ()


def test_an_equal_norm_under_another_name_has_the_same_scores_to_the_bit(tmp_path, store):
    plan = gated_plan(tmp_path)
    for trial in plan.trials:
        seed = trial.axes["seed"]
        write(store, trial, psnr={"a.png": 30.1 + seed, "b.png": 29.7 - seed})
    found = only(plan, store, "psnr")
    assert found.values == (0.0,) * 5
    assert found.exact == "pass" and found.said == "the same scores, to the bit"
    assert isinstance(found.interval, Unknown) and "equal" in found.interval.reason


def test_ssim_is_judged_where_a_margin_is_given_and_psnr_unless_it_is_null(tmp_path, store):
    plan = gated_plan(tmp_path, {"margin": None, "ssim_margin": 0.002})
    write_all(store, plan, {"i_ln": 0.1})
    found = measured(plan, store)
    assert list(found) == [("ssim", "i_ln", PLACE)]
    (ssim,) = found.values()
    assert ssim.pass_above == -0.002 and ssim.shown.unit == "SSIM"
    assert 0 < ssim.shown.value < 0.001


def test_every_size_is_a_question_for_every_candidate(tmp_path, store):
    norms = ("layer_norm", "i_ln", "rms_norm")
    plan = gated_plan(tmp_path, norms=norms, seeds=2, widths=(12, 24))
    write_all(store, plan, {})
    assert [key[1:] for key in measured(plan, store)] == [
        (norm, f"{SET}, w{width} d1 swinir-tiny")
        for norm in ("i_ln", "rms_norm")
        for width in (12, 24)
    ]


def test_a_norm_whose_knobs_are_spelled_out_is_judged_under_its_own_name(tmp_path, store):
    plan = gated_plan(
        tmp_path, norms=("layer_norm", "i_ln", "{name: i_ln, eps: 1.0e-4}", "rms_norm"), seeds=2
    )
    assert len(plan.trials) == 6  # two are folded
    write_all(store, plan, {"i_ln": -0.3})
    named, spelled = (only(plan, store, "psnr", norm) for norm in ("i_ln", "i_ln[eps=0.0001]"))
    assert spelled.values == named.values and spelled.trials == named.trials
    assert spelled.setup != named.setup


def test_commits_may_differ_but_torch_and_machines_may_not(tmp_path, store):
    plan = gated_plan(tmp_path, seeds=2)

    def of(trial, one, other):
        return one if trial.axes["norm"] == "i_ln" else other

    write_all(store, plan, {}, commit=lambda trial: of(trial, "a" * 40, "b" * 40))
    assert len(only(plan, store, "psnr").values) == 2
    for field, one, other, said in (
        ("torch", "2.14.0", "2.13.0+cpu", "torch 2.14.0 for i_ln, 2.13.0 for layer_norm"),
        ("processor", "NVIDIA H200", "a CPU", "machine NVIDIA H200 for i_ln, a CPU for layer_norm"),
    ):
        other_store = open_store(str(tmp_path / field))
        write_all(other_store, plan, {}, **{field: lambda t, a=one, b=other: of(t, a, b)})
        found = only(plan, other_store, "psnr")
        assert found.values == Unknown(f"cannot be compared: seeds 0, 1: {said}")
        assert found.trials == () and found.exact is None


def test_a_local_build_of_torch_is_no_other_version(tmp_path, store):
    plan = gated_plan(tmp_path, seeds=2)
    for trial in plan.trials:
        write(store, trial, torch="2.13.0+cpu" if trial.axes["norm"] == "i_ln" else "2.13.0")
    assert len(only(plan, store, "psnr").values) == 2


def test_other_ways_of_scoring_and_other_images_cannot_be_compared(tmp_path, store):
    plan = gated_plan(tmp_path, seeds=2)
    for trial in plan.trials:
        is_odd = trial.axes["norm"] == "i_ln"
        psnr = {"a.png": 30.0, "z.png" if is_odd and trial.axes["seed"] else "b.png": 31.0}
        write(store, trial, psnr=psnr, how={"border_px": 4} if is_odd else None)
    why = only(plan, store, "psnr").values
    assert isinstance(why, Unknown)
    assert "scored with border_px 4 for i_ln, border_px 2 for layer_norm" in why.reason
    assert "z.png only for i_ln" in why.reason


def test_only_the_seeds_that_both_have_are_paired_and_others_are_named(tmp_path, store):
    plan = gated_plan(tmp_path, seeds=4)
    for trial in plan.trials:
        norm, seed = trial.axes["norm"], trial.axes["seed"]
        if (norm, seed) not in (("i_ln", 1), ("layer_norm", 3)):
            write(store, trial, psnr=noisy(trial, {}))
    found = only(plan, store, "psnr")
    assert found.seeds == (0, 2) and len(found.values) == 2
    assert found.left_out == ("seed 1: i_ln pending", "seed 3: layer_norm pending")
    assert len(found.trials) == 4


def test_one_seed_has_a_number_and_no_interval(tmp_path, store):
    plan = gated_plan(tmp_path, seeds=1)
    write_all(store, plan, {"i_ln": -0.3})
    found = only(plan, store, "psnr")
    assert len(found.values) == 1 and found.exact is None
    assert isinstance(found.interval, Unknown) and "one seed" in found.interval.reason
    assert found.shown.low is None and found.shown.value < -0.2


def test_nothing_trained_yet_says_so(tmp_path, store):
    plan = gated_plan(tmp_path, {"growth": 10.0}, seeds=2)
    psnr, growth = measured(plan, store).values()
    assert psnr.values.reason == (
        "cannot be compared: seeds 0, 1: i_ln pending, layer_norm pending"
    )
    assert growth.values.reason == "seeds 0, 1: pending"
    assert (psnr.trials, growth.trials, psnr.seeds) == ((), (), ())


def test_a_candidate_that_diverged_fails_and_hinders_nobody(tmp_path, store):
    plan = gated_plan(tmp_path, {"growth": 10.0}, norms=("layer_norm", "i_ln", "rms_norm"), seeds=2)
    for trial in plan.trials:
        is_gone = trial.axes["norm"] == "i_ln" and trial.axes["seed"] == 1
        fields = {"outcome": "diverged", "step": 37} if is_gone else {}
        write(store, trial, psnr=noisy(trial, {}), curve=grown(3, 4), **fields)
    found = measured(plan, store)
    for gate, place in (("psnr", PLACE), ("growth", "w12 d1 swinir-tiny")):
        gone, other = found[gate, "i_ln", place], found[gate, "rms_norm", place]
        assert gone.exact == "fail" and gone.said == "diverged at step 37 (seed 1)"
        assert gone.values == Unknown(gone.said) and gone.seeds == (0, 1)
        lost = next(t.id for t in plan.trials if t.axes["norm"] == "i_ln" and t.axes["seed"] == 1)
        assert lost in gone.trials
        assert other.exact != "fail" and other.seeds == (0, 1)


def test_a_candidate_that_failed_is_undecided_with_the_reason(tmp_path, store):
    plan = gated_plan(tmp_path, {"growth": 10.0}, seeds=2)
    for trial in plan.trials:
        if trial.axes["norm"] == "layer_norm":
            write(store, trial)
            continue
        attempt = attempts.new_attempt(store, trial, {"host": "h", "versions": {}, "commit": "c"})
        attempts.write_failure(store, trial.id, attempt, "own code", "no such name", final=True)
    for one in measured(plan, store).values():
        assert one.values == Unknown("could not be trained: seeds 0, 1: no such name")
        assert one.exact is None


def test_a_baseline_that_is_not_there_cannot_be_compared_with(tmp_path, store):
    plan = gated_plan(tmp_path, {"parameters": "equal"}, norms=("i_ln",), seeds=2)
    write_all(store, plan, {})
    for one in measured(plan, store).values():
        assert one.values == Unknown("cannot be compared: no layer_norm here")
        assert one.exact is None


def test_the_setup_changes_with_the_question_and_not_with_the_seeds(tmp_path, store):
    def setup(asked=None, **fields):
        return only(gated_plan(tmp_path, asked, **fields), store, "psnr").setup

    assert setup() == setup(seeds=3)
    assert setup() != setup({"margin": 0.2})
    assert setup() != setup(widths=(24,))
    assert setup() != setup(against={"norm": "rms_norm"}, norms=("rms_norm", "i_ln"))


def test_a_sweep_without_a_gate_is_a_mistake_of_the_caller(tmp_path, store):
    plan = gated_plan(tmp_path, seeds=1)
    bare = replace(plan, gate=None)
    with pytest.raises(ValueError, match="has no gate"):
        measure(bare, read_frame(bare, store), store)


# --- growth and parameters


def test_growth_is_the_factor_since_step_0_on_the_scale_of_logarithms(tmp_path, store):
    plan = gated_plan(tmp_path, {"margin": None, "growth": 20.0}, seeds=3)
    factors = {0: 9.0, 1: 10.0, 2: 12.0}
    for trial in plan.trials:
        write(store, trial, curve=grown(3.0, 3.0 * factors[trial.axes["seed"]]))
    found = only(plan, store, "growth")
    expected = -np.log(list(factors.values()))
    assert np.allclose(found.values, expected, rtol=1e-12)
    assert found.pass_above == found.fail_below == pytest.approx(-math.log(20))
    low, high = stats.t.interval(0.95, 2, expected.mean(), stats.sem(expected))
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert found.shown.value == pytest.approx(math.exp(-expected.mean()))
    assert (found.shown.low, found.shown.high) == pytest.approx((math.exp(-high), math.exp(-low)))
    assert (found.shown.limit, found.shown.unit, found.shown.sense) == (20, "times", "at_most")
    assert len(found.trials) == 3  # the candidate's alone


def test_features_that_are_not_finite_fail_for_certain(tmp_path, store):
    plan = gated_plan(tmp_path, {"margin": None, "growth": 20.0}, seeds=2)
    for trial in plan.trials:
        write(store, trial, curve=grown(3.0, math.inf if trial.axes["seed"] else 4.0))
    found = only(plan, store, "growth")
    assert found.exact == "fail" and found.said == "not finite (seed 1)"
    assert found.shown.value is None


def test_no_feature_traces_is_said(tmp_path, store):
    plan = gated_plan(tmp_path, {"margin": None, "growth": 20.0}, seeds=2)
    write_all(store, plan, {})
    assert only(plan, store, "growth").values == Unknown(
        "seeds 0, 1: it recorded no feature traces"
    )


def test_parameters_are_compared_exactly_and_without_training(tmp_path, store):
    plan = gated_plan(
        tmp_path, {"parameters": "equal"}, norms=("layer_norm", "i_ln", "rms_norm"), seeds=2
    )
    counts = {trial.axes["norm"]: trial.parameters for trial in plan.trials}
    same, fewer = (only(plan, store, "parameters", norm) for norm in ("i_ln", "rms_norm"))
    assert counts["i_ln"] == counts["layer_norm"] > counts["rms_norm"]
    assert same.exact == "pass" and same.shown.value == same.shown.limit == counts["i_ln"]
    assert fewer.exact == "fail"
    assert fewer.said == (
        f"{counts['rms_norm']:,} parameters, and {counts['layer_norm']:,} of layer_norm"
    )
    assert fewer.seeds == (0, 1) and len(fewer.trials) == 4
