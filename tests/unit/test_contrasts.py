"""Differences of norms: what is paired, what is left out, and what may be said of the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from orchestrator.plan import Plan, Trial
from orchestrator.report.comparable import MEAN
from orchestrator.report.contrasts import Contrast, Place, baseline, contrast, places, scores
from orchestrator.report.frame import Frame, read_frame
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.moderation import Prior
from orchestrator.store.base import Store
from tests import scored_store
from tests.scored_store import (
    APART,
    IMAGES,
    SET,
    SETS,
    drawn,
    scored,
    write_evaluation,
    write_scored,
)
from tests.sweeps import comparing, plan_of

SWEEP = comparing(norm="i_ln, layer_norm", width="12", seed="0, 1, 2", training="steps: 100")

Change = Callable[[Store, Trial, Mapping[str, Any]], None]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, SWEEP)


def psnr(frame: Frame, **fields: Any) -> Place:
    """The first place of PSNR with these fields."""
    return next(
        place
        for place in places(frame)
        if place.metric == "psnr"
        and all(getattr(place, name) == value for name, value in fields.items())
    )


def found(frame: Frame, **fields: Any) -> Contrast:
    return contrast(frame, psnr(frame, **fields), "i_ln", "layer_norm")


def known(value: Interval | Unknown) -> Interval:
    assert isinstance(value, Interval), value
    return value


def unknown(value: object) -> str:
    assert isinstance(value, Unknown), value
    return value.reason


def nothing_is_said(of: Contrast) -> str:
    """The reason why there is no number of any kind."""
    reasons = {
        unknown(value)
        for value in (
            of.differences,
            of.other_seeds,
            of.other_seeds_and_images,
            of.other_images,
            of.detectable,
        )
    }
    (reason,) = reasons
    return reason


def written(plan: Plan, store: Store, change: Change, *which: tuple[str, int]) -> Frame:
    """A sweep in which the trials of these norms and seeds are written by `change`."""
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        if (trial.axes["norm"], trial.axes["seed"]) in which:
            change(store, trial, values[trial.id])
        else:
            write_scored(store, trial, values[trial.id])
    return read_frame(plan, store)


ALL = (("i_ln", 0), ("i_ln", 1), ("i_ln", 2))


def test_places_are_what_the_sweep_evaluates_and_what_else_was_scored(
    plan: Plan, store: Store
) -> None:
    frame = read_frame(plan, store)
    assert [(place.set, place.metric, place.run) for place in places(frame)] == [
        (SET, "psnr", ""),
        (SET, "ssim", ""),
    ]
    assert places(frame)[0].labels == {
        "backbone": "swinir-tiny",
        "task": "sr_x2",
        "width": 12,
        "depth": plan.trials[0].axes["depth"],
    }
    images = {"a.png": scored(30.0)}
    scored_store.write_drawn(store, plan, scored_store.EQUAL, SETS)
    write_evaluation(store, plan.trials[0], SET, images, precision="int8")
    write_evaluation(store, plan.trials[0], "Set14", images, tile=(64, 16))
    assert [(p.set, p.run) for p in places(read_frame(plan, store)) if p.metric == "psnr"] == [
        (SET, ""),
        ("Set14", "fp32, tiles 64+16"),
        (SET, "int8"),
    ]


def test_the_baseline_is_layer_norm_or_else_the_first_norm(
    plan: Plan, tmp_path: Path, store: Store
) -> None:
    assert baseline(read_frame(plan, store)) == "layer_norm"
    others = plan_of(tmp_path, SWEEP.replace("layer_norm", "rms_norm"), "others")
    assert baseline(read_frame(others, store)) == "i_ln"


def test_differences_are_candidate_minus_reference_by_seed_and_image(
    plan: Plan, store: Store
) -> None:
    values = drawn(plan, APART, SETS)
    frame = written(plan, store, write_scored)
    of = found(frame)
    by = {(t.axes["norm"], t.axes["seed"]): values[t.id][SET] for t in plan.trials}
    expected = [
        [by["i_ln", s][image]["psnr"] - by["layer_norm", s][image]["psnr"] for image in IMAGES]
        for s in (0, 1, 2)
    ]
    assert (of.seeds, of.images, of.left_out) == ((0, 1, 2), IMAGES, ())
    assert of.trials == tuple(
        trial.id
        for norm in ("i_ln", "layer_norm")
        for trial in plan.trials
        if trial.axes["norm"] == norm
    )
    assert isinstance(of.differences, np.ndarray)
    np.testing.assert_allclose(of.differences, expected, rtol=0, atol=1e-12)
    t = stats.ttest_1samp(np.mean(expected, axis=1), 0).confidence_interval(0.95)
    interval = known(of.other_seeds)  # one cell: there is nothing to pool from
    assert (interval.low, interval.high) == pytest.approx((t.low, t.high), abs=1e-10)
    turned = contrast(frame, of.place, "layer_norm", "i_ln")
    assert known(turned.other_seeds).estimate == -interval.estimate


def test_a_true_difference_is_found_with_its_sign(plan: Plan, store: Store) -> None:
    scored_store.write_drawn(store, plan, APART, SETS)
    interval = known(found(read_frame(plan, store)).other_seeds)
    assert 0 < interval.low < 0.3 < interval.high


def test_scores_are_a_table_of_seeds_and_images(plan: Plan, store: Store) -> None:
    frame = written(plan, store, lambda *_: None, ("i_ln", 1))
    of = scores(frame, psnr(frame), "i_ln")
    assert not isinstance(of, Unknown)
    assert (of.seeds, of.images, of.table.shape) == ((0, 2), IMAGES, (2, 5))
    assert of.left_out == ("seed 1: pending",)
    assert unknown(scores(frame, psnr(frame), "rms_norm")) == "rms_norm is not in the sweep here"


def test_one_seed_says_nothing_of_others_but_something_of_images(plan: Plan, store: Store) -> None:
    of = found(written(plan, store, lambda *_: None, ("i_ln", 1), ("layer_norm", 2)))
    assert of.seeds == (0,)
    assert of.left_out == ("seed 1: i_ln pending", "seed 2: layer_norm pending")
    assert unknown(of.other_seeds).startswith("one seed: ")
    assert known(of.other_images).n_images == 5


def test_one_image_says_nothing_of_others(plan: Plan, store: Store) -> None:
    scored_store.write_drawn(store, plan, scored_store.EQUAL, {SET: ["a.png"]})
    of = found(read_frame(plan, store))
    assert known(of.other_seeds).n_images == 1
    assert unknown(of.other_images).startswith("one image: ")
    assert unknown(of.other_seeds_and_images).startswith("one image: ")


def test_a_diverged_seed_is_left_out_with_its_step(plan: Plan, store: Store) -> None:
    def diverged(store: Store, trial: Trial, values: Mapping[str, Any]) -> None:
        write_scored(store, trial, values, step=37, outcome="diverged")

    of = found(written(plan, store, diverged, ("i_ln", 1)))
    assert of.seeds == (0, 2)
    assert of.left_out == ("seed 1: i_ln diverged at step 37",)
    of_none = found(written(plan, store, diverged, *ALL))
    assert nothing_is_said(of_none) == (
        "cannot be compared: seeds 0, 1, 2: i_ln diverged at step 37"
    )


def with_other(**fields: Any) -> Change:
    def change(store: Store, trial: Trial, values: Mapping[str, Any]) -> None:
        write_scored(store, trial, values, **fields)

    return change


def with_spec(**parts: Mapping[str, Any]) -> Change:
    def change(store: Store, trial: Trial, values: Mapping[str, Any]) -> None:
        write_scored(store, scored_store.altered(trial, **parts), values)

    return change


def with_images(*images: str) -> Change:
    def change(store: Store, trial: Trial, values: Mapping[str, Any]) -> None:
        write_scored(store, trial, {SET: {image: scored(30.0) for image in images}})

    return change


UNLIKE = {
    "commit": (
        with_other(commit="dead" * 10),
        "commit deaddeaddead for i_ln, c0ffeec0ffee for layer_norm",
    ),
    "no commit": (
        with_other(commit=""),
        "commit not recorded for i_ln, c0ffeec0ffee for layer_norm",
    ),
    "data": (
        with_spec(data={"train_sha256": "ab" * 32}),
        "data.train_sha256 abababababab for i_ln, ",
    ),
    "steps": (
        with_spec(training={"steps": 50}),
        "training.steps 50 for i_ln, 100 for layer_norm",
    ),
    "rate": (with_spec(training={"lr": 0.5}), "training.lr 0.5 for i_ln, 0.0002 for layer_norm"),
    "border": (
        with_other(how={**scored_store.HOW, "border_px": 4}),
        "scored with border_px 4, compared Y, lr_mode u8 for i_ln, "
        "border_px 2, compared Y, lr_mode u8 for layer_norm",
    ),
    "images": (
        with_images("a.png", "b.png", "z.png"),
        "3 images for i_ln, 5 for layer_norm "
        "(z.png only for i_ln, c.png, d.png, e.png only for layer_norm)",
    ),
    "means": (
        with_other(how=None),
        "scores of the mean alone for i_ln, of 5 images for layer_norm",
    ),
    "step": (with_other(step=80), "final step 80 for i_ln, 100 for layer_norm"),
}


@pytest.mark.parametrize("what", UNLIKE)
def test_unlike_trials_are_not_compared_and_both_values_are_named(
    plan: Plan, store: Store, what: str
) -> None:
    change, words = UNLIKE[what]
    of = found(written(plan, store, change, *ALL))
    assert words in nothing_is_said(of)
    assert nothing_is_said(of).startswith("cannot be compared: seeds 0, 1, 2: ")
    assert of.seeds == ()


@pytest.mark.parametrize("what", UNLIKE)
def test_one_unlike_seed_is_left_out_by_name(plan: Plan, store: Store, what: str) -> None:
    change, words = UNLIKE[what]
    of = found(written(plan, store, change, ("i_ln", 1)))
    assert of.seeds == (0, 2)
    (left_out,) = of.left_out
    assert left_out.startswith("seed 1: ")
    assert words in left_out
    assert known(of.other_seeds).n_seeds == 2


def test_seeds_of_another_commit_than_most_are_left_out(plan: Plan, store: Store) -> None:
    later = with_other(commit="dead" * 10)
    of = found(written(plan, store, later, ("i_ln", 1), ("layer_norm", 1)))
    assert of.seeds == (0, 2)
    assert of.left_out == ("seed 1: commit deaddeaddead for it, c0ffeec0ffee for seed 0",)


def test_placement_and_what_is_observed_do_not_keep_trials_apart(plan: Plan, store: Store) -> None:
    change = with_spec(placement={"zero_stage": 1}, observe={"log_every": 7})
    assert found(written(plan, store, change, *ALL)).seeds == (0, 1, 2)


def test_means_without_images_hold_for_these_images_only(plan: Plan, store: Store) -> None:
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        write_scored(store, trial, values[trial.id], how=None)
    of = found(read_frame(plan, store))
    assert of.images == (MEAN,)
    assert known(of.other_seeds).low > 0
    assert unknown(of.other_images).startswith("no per-image scores")
    assert unknown(of.other_seeds_and_images).startswith("no per-image scores")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_score_that_is_not_finite_is_named_and_not_averaged(
    plan: Plan, store: Store, value: float
) -> None:
    def broken(store: Store, trial: Trial, values: Mapping[str, Any]) -> None:
        images = {**values[SET], "c.png": {**scored(30.0), "psnr": value}}
        write_scored(store, trial, {SET: images})

    frame = written(plan, store, broken, ("i_ln", 1))
    words = f"psnr of i_ln is {value} at seed 1, c.png"
    assert nothing_is_said(found(frame)) == f"cannot be compared: {words}"
    assert unknown(scores(frame, psnr(frame), "i_ln")) == words


def test_two_scores_of_one_image_are_no_score(plan: Plan, store: Store) -> None:
    scored_store.write_drawn(store, plan, APART, SETS)
    frame = read_frame(plan, store)
    of_one = frame.images[frame.images["trial"] == plan.trials[0].id]
    again = of_one[of_one["metric"] == "psnr"].tail(1)
    twice = replace(frame, images=pd.concat([frame.images, again], ignore_index=True))
    (image,) = again["image"]
    of = found(twice)
    assert of.seeds == (1, 2)
    assert of.left_out == (f"seed 0: i_ln has two scores of one image, {image}",)


def test_equal_values_everywhere_say_nothing(plan: Plan, store: Store) -> None:
    for trial in plan.trials:
        write_scored(store, trial, {SET: {image: scored(30.0) for image in IMAGES}})
    of = found(read_frame(plan, store))
    assert unknown(of.other_seeds) == (
        "all 15 differences equal 0: without variation there is nothing to judge their "
        "uncertainty by"
    )
    assert isinstance(of.prior, Unknown)


def test_evaluations_are_places_of_their_own(plan: Plan, store: Store) -> None:
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        write_scored(store, trial, values[trial.id])
        if trial.axes["seed"] < 2:
            images = {
                name: scored(v["psnr"] - 1 - trial.axes["seed"])
                for name, v in values[trial.id][SET].items()
            }
            write_evaluation(store, trial, SET, images, precision="int4", tile=(64, 16))
    frame = read_frame(plan, store)
    of = found(frame, precision="int4", tile="64+16")
    assert of.seeds == (0, 1)
    assert of.left_out == (
        "seed 2: i_ln done, not evaluated at int4, tiles 64+16, "
        "layer_norm done, not evaluated at int4, tiles 64+16",
    )
    assert found(frame).seeds == (0, 1, 2)


def test_an_evaluation_stands_in_where_training_scored_nothing(plan: Plan, store: Store) -> None:
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        if trial.axes["norm"] == "i_ln":
            write_scored(store, trial, {})
            write_evaluation(store, trial, SET, values[trial.id][SET])
        else:
            write_scored(store, trial, values[trial.id])
            images = {name: scored(1.0) for name in IMAGES}
            write_evaluation(store, trial, SET, images)  # what training scored comes first
    interval = known(found(read_frame(plan, store)).other_seeds)
    assert 0 < interval.low < 0.3 < interval.high


def test_an_evaluation_of_earlier_weights_is_no_final_score(plan: Plan, store: Store) -> None:
    def earlier(store: Store, trial: Trial, values: Mapping[str, Any]) -> None:
        write_scored(store, trial, {})
        write_evaluation(store, trial, SET, values[SET], step=60)

    of = found(written(plan, store, earlier, ("i_ln", 0)))
    assert of.left_out == ("seed 0: i_ln evaluated at step 60, trained to step 100",)


def test_sets_with_other_checksums_are_not_compared(plan: Plan, store: Store) -> None:
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        write_scored(store, trial, {})
        sha256 = ("ab" if trial.axes["norm"] == "i_ln" else "cd") * 32
        write_evaluation(
            store, trial, SET, values[trial.id][SET], precision="fp16", set_sha256=sha256
        )
    assert (
        "set with checksum abababababab for i_ln, cdcdcdcdcdcd for layer_norm"
        in nothing_is_said(found(read_frame(plan, store), precision="fp16"))
    )


MORE = SWEEP.replace("[i_ln, layer_norm]", "[i_ln, layer_norm, rms_norm]").replace(
    "width: [12]", "width: [12, 24, 36]"
)


def test_a_contrast_is_not_part_of_the_pool_that_moderates_it(tmp_path: Path, store: Store) -> None:
    """The seeds of i_ln at the first size are a hundred times as far apart as all others."""
    plan = plan_of(tmp_path, MORE)
    values = drawn(plan, scored_store.EQUAL, SETS)
    for trial in plan.trials:
        wild = trial.axes["norm"] == "i_ln" and trial.axes["width"] == 12
        shift = 3.0 * trial.axes["seed"] if wild else 0.0
        images = {name: scored(v["psnr"] + shift) for name, v in values[trial.id][SET].items()}
        write_scored(store, trial, {SET: images})
    frame = read_frame(plan, store)
    wild = found(frame)
    assert wild.place.labels["width"] == 12
    assert isinstance(wild.prior, Prior)
    assert wild.prior.n_cells == 5  # 2 norms at 3 sizes, but for itself
    assert wild.prior.variance < 0.01
    calm = contrast(frame, wild.place, "rms_norm", "layer_norm").prior
    assert isinstance(calm, Prior)
    assert calm.n_cells == 5
    between = contrast(frame, wild.place, "rms_norm", "i_ln").prior
    assert isinstance(between, Prior)
    assert between.n_cells == 4
    assert between.variance < 0.01


def test_other_tasks_and_sets_are_not_pooled(tmp_path: Path, store: Store) -> None:
    plan = plan_of(
        tmp_path,
        SWEEP.replace("[sr_x2]", "[sr_x2, sr_x3]").replace("width: [12]", "width: [12, 24]"),
    )
    scored_store.write_drawn(store, plan, scored_store.EQUAL, {**SETS, "Set14": IMAGES})
    frame = read_frame(plan, store)
    assert unknown(found(frame).prior) == "1 other cells to pool from: at least two are needed"


def test_learning_rates_are_places_of_their_own(tmp_path: Path, store: Store) -> None:
    plan = plan_of(tmp_path, SWEEP.replace("  seed:", "  lr: [1.0e-4, 2.0e-4]\n  seed:"))
    scored_store.write_drawn(store, plan, APART, SETS)
    frame = read_frame(plan, store)
    rates = [place.labels["lr"] for place in places(frame) if place.metric == "psnr"]
    assert rates == [1e-4, 2e-4]
    assert all(found(frame, labels=place.labels).seeds == (0, 1, 2) for place in places(frame))
