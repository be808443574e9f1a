"""What the report says of norms: nothing of noise, the truth of a difference, and why not."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.plan import Plan, Trial
from orchestrator.report.contents import Report, build
from orchestrator.report.families import ALPHA, families
from orchestrator.report.frame import Frame, read_frame
from orchestrator.report.page import render
from orchestrator.statistics.decisions import p_differs
from orchestrator.statistics.interval import Interval
from orchestrator.statistics.multiplicity import holm
from orchestrator.store.base import Store
from tests.scored_store import (
    APART,
    EQUAL,
    HOW,
    IMAGES,
    SET,
    SETS,
    Truth,
    altered,
    drawn,
    scored,
    write_drawn,
    write_evaluation,
    write_scored,
)
from tests.sweeps import comparing, plan_of

SWEEP = comparing(task="sr_x2, denoise_25", width="12, 24", seed="0, 1, 2", training="steps: 100")
DRAWS = 40


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, SWEEP)


def reported(plan: Plan, store: Store) -> Report:
    return build(plan, read_frame(plan, store), datetime(2026, 1, 2, tzinfo=UTC))


def redrawn(plan: Plan, frame: Frame, truth: Truth, seed: int) -> Frame:
    """The frame of the same sweep with other scores: reading a store anew takes a second."""
    values = drawn(plan, truth, SETS, seed)
    images = frame.images.copy()
    images["value"] = [
        values[row.trial][row.set][row.image][row.metric] for row in images.itertuples()
    ]
    return replace(frame, images=images)


def numbers(page: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(page)))


def test_equal_norms_are_hardly_ever_told_apart_or_marked(plan: Plan, store: Store) -> None:
    write_drawn(store, plan, EQUAL, SETS)
    frame = read_frame(plan, store)
    tables = [
        family for seed in range(DRAWS) for family in families(redrawn(plan, frame, EQUAL, seed))
    ]
    assert len(tables) == 2 * DRAWS
    for family in tables:
        assert [one.p is not None for one in family.differences.values()] == [True] * 4
        assert len(family.best) == 4
    # The error rate that is kept is that of a table: 5 % of 80.
    assert sum(any(one.is_told for one in family.differences.values()) for family in tables) <= 4
    assert sum(any(map(family.marked, family.best)) for family in tables) <= 4


def test_a_true_difference_is_told_apart_with_its_sign_and_held(plan: Plan, store: Store) -> None:
    write_drawn(store, plan, APART, SETS)
    frame = read_frame(plan, store)
    draws = [families(redrawn(plan, frame, APART, seed)) for seed in range(DRAWS)]
    intervals = []
    for (_, _, metric), norm, one in (
        (cell, norm, one)
        for found in draws
        for family in found
        for (cell, norm), one in family.differences.items()
    ):
        assert norm == "i_ln"
        assert one.is_told
        assert isinstance(one.contrast.other_seeds, Interval)
        if metric == "psnr":
            intervals.append(one.contrast.other_seeds)
    assert all(interval.low > 0 for interval in intervals)
    held = np.mean([interval.low <= 0.3 <= interval.high for interval in intervals])
    assert held > 0.9  # of 160 independent ones; under 95 % this is 3 standard errors away
    marks = [family.marked(cell) for found in draws for family in found for cell in family.best]
    assert set(marks) <= {frozenset(), frozenset({"i_ln"})}  # stricter: all four columns at once
    assert np.mean([len(norms) for norms in marks]) > 0.7


def test_p_is_holms_over_the_table_and_alpha_is_shared_over_its_columns(
    plan: Plan, store: Store
) -> None:
    write_drawn(store, plan, EQUAL, SETS)
    for family in families(read_frame(plan, store)):
        differences = family.differences.values()
        intervals = [one.contrast.other_seeds for one in differences]
        p = [p_differs(found) for found in intervals if isinstance(found, Interval)]
        assert [one.p for one in differences] == p
        assert [one.p_holm for one in differences] == list(holm(p))
        assert len(family.best) == 4
        assert all(best.alpha == ALPHA for best in family.best.values())


def test_each_size_and_each_precision_is_a_family(plan: Plan, store: Store) -> None:
    write_drawn(store, plan, EQUAL, SETS)
    for trial in plan.trials:
        if trial.axes["width"] == 12:
            write_evaluation(store, trial, SET, {"a.png": scored(30.0)}, precision="int8")
    found = families(read_frame(plan, store))
    assert [(family.size, family.precision, family.is_plain) for family in found] == [
        ("w12 d2", "fp32", True),
        ("w12 d2", "int8", False),
        ("w24 d2", "fp32", True),
    ]


def test_marks_and_words_follow_a_true_difference(plan: Plan, store: Store) -> None:
    write_drawn(store, plan, replace(APART, effects={"layer_norm": 0.0, "i_ln": 1.0}), SETS)
    files = render(reported(plan, store))
    page = files["report.md"]
    assert "**Marked**: norms that cannot be told from the best of their column" in page
    above = r"- sr_x2, PSNR on embedded-test: i_ln is above layer_norm at width 12, depth 2 "
    shown = r"\(\+\d\.\d\d dB \[\+\d\.\d\d, \+\d\.\d\d\]\)"
    assert re.search(rf"{above}{shown} and at width 24, depth 2 {shown}\.", page)
    rows = numbers(files["table.csv"])
    assert {(row["norm"], row["in_best_set"]) for row in rows} == {
        ("layer_norm", "False"),
        ("i_ln", "True"),
    }
    assert len(rows) == 2 * 2 * 2 * 2
    differences = numbers(files["differences.csv"])
    assert len(differences) == 8
    assert {row["differs"] for row in differences} == {"True"}
    assert {
        (row["candidate"], row["reference"], row["seeds"], row["images"]) for row in differences
    } == {("i_ln", "layer_norm", "3", "5")}


def test_each_number_of_a_difference_is_in_the_file(plan: Plan, store: Store) -> None:
    write_drawn(store, plan, APART, SETS)
    files = render(reported(plan, store))
    for row in numbers(files["differences.csv"]):
        if row["metric"] == "psnr":
            estimate, low, high = (
                f"+{float(row[name]):.2f}" for name in ("estimate", "low", "high")
            )
            shown = f"{estimate} [{low}, {high}]"
            p = float(row["p_holm"])
            assert p < 0.1
            said = f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}".replace("<", "&lt;")
            assert (
                f"{shown} (differs, {said}, detectable {float(row['detectable']):.2f})"
                in (files["report.md"])
            )


def test_equal_norms_are_undecided_and_the_page_says_what_would_be_found(
    plan: Plan, store: Store
) -> None:
    write_drawn(store, plan, EQUAL, SETS)
    page = render(reported(plan, store))["report.md"]
    assert "Nothing is marked: in no column can a norm be told from the best." in page
    for task in ("sr_x2", "denoise_25"):
        assert (
            f"- {task}, PSNR on embedded-test: no norm can be told from layer_norm (one of 0.0"
            in page
        )
    assert "**" not in page
    assert "differs, p" not in page


def test_one_seed_is_undecided_and_other_images_are_spoken_of_apart(
    tmp_path: Path, store: Store
) -> None:
    plan = plan_of(tmp_path, SWEEP.replace("[0, 1, 2]", "[0]"))
    write_drawn(store, plan, APART, SETS)
    files = render(reported(plan, store))
    page = files["report.md"]
    assert "nothing is marked" in page
    assert "(undecided: one seed, other images: [+0.2" in page
    assert "PSNR on embedded-test: undecided: one seed." in page
    assert "**" not in page
    for row in numbers(files["differences.csv"]):
        assert (row["low"], row["p"], row["differs"], row["detectable"]) == ("", "", "", "")
        assert row["low_images"]
        assert row["why"].startswith("one seed: ")


Change = Callable[[Store, Trial, Mapping[str, Any]], None]


def with_spec(**parts: Mapping[str, Any]) -> Change:
    return lambda store, trial, values: write_scored(store, altered(trial, **parts), values)


def with_other(**fields: Any) -> Change:
    return lambda store, trial, values: write_scored(store, trial, values, **fields)


def without_an_image(store: Store, trial: Trial, values: Mapping[str, Any]) -> None:
    images = {name: value for name, value in values[SET].items() if name != "c.png"}
    write_scored(store, trial, {SET: images})


def with_infinite(store: Store, trial: Trial, values: Mapping[str, Any]) -> None:
    exact = {"psnr": math.inf, "ssim": 1.0, "non_finite": 0.0}
    write_scored(store, trial, {SET: {**values[SET], "c.png": exact}})


def equal(store: Store, trial: Trial, values: Mapping[str, Any]) -> None:
    write_scored(store, trial, {SET: dict.fromkeys(IMAGES, scored(30.0))})


CANNOT = "cannot be compared: seeds 0, 1, 2: "
BAD = {
    "commit": (
        with_other(commit="dead" * 10),
        f"{CANNOT}commit deaddeaddead for i_ln, c0ffeec0ffee for layer_norm.",
    ),
    "data": (
        with_spec(data={"train_sha256": "ab" * 32}),
        f"{CANNOT}data.train_sha256 abababababab for i_ln, ",
    ),
    "steps": (
        with_spec(training={"steps": 50}),
        f"{CANNOT}training.steps 50 for i_ln, 100 for layer_norm.",
    ),
    "border": (
        with_other(how={**HOW, "border_px": 4}),
        f"{CANNOT}scored with border_px 4, compared Y, lr_mode u8 for i_ln, "
        "border_px 2, compared Y, lr_mode u8 for layer_norm.",
    ),
    "images": (
        without_an_image,
        f"{CANNOT}4 images for i_ln, 5 for layer_norm (c.png only for layer_norm).",
    ),
    "infinite": (with_infinite, "cannot be compared: psnr of i_ln is inf at seed 0, c.png"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_compared_is_a_sentence_without_number_or_mark(
    tmp_path: Path, store: Store, what: str
) -> None:
    plan = plan_of(tmp_path, SWEEP.replace("[sr_x2, denoise_25]", "[sr_x2]"))
    change, words = BAD[what]
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        write = change if trial.axes["norm"] == "i_ln" else write_scored
        write(store, trial, values[trial.id])
    files = render(reported(plan, store))
    page = files["report.md"]
    assert words in page
    assert "- sr_x2, PSNR on embedded-test: cannot be compared.\n" in page
    psnr = [row for row in numbers(files["differences.csv"]) if row["metric"] == "psnr"]
    for row, column in itertools.product(psnr, ("estimate", "low", "p", "differs", "detectable")):
        assert row[column] == ""
    rows = [row for row in numbers(files["table.csv"]) if row["metric"] == "psnr"]
    assert {row["in_best_set"] for row in rows} == {""}
    assert "nan" not in files["differences.csv"]
    if what != "infinite":  # SSIM can be compared then
        assert "**" not in page
        assert "Nothing is marked: no two norms can be compared." in page


def test_what_is_told_stands_beside_what_cannot_be_compared(tmp_path: Path, store: Store) -> None:
    plan = plan_of(tmp_path, SWEEP.replace("[sr_x2, denoise_25]", "[sr_x2]"))
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        later = trial.axes["norm"] == "i_ln" and trial.axes["width"] == 24
        write_scored(store, trial, values[trial.id], commit="dead" * 10 if later else "beef" * 10)
    page = render(reported(plan, store))["report.md"]
    said = r"i_ln is above layer_norm at width 12, depth 2 \([^)]*\); "
    said += r"i_ln at width 24, depth 2: cannot be compared\."
    assert re.search(f"- sr_x2, PSNR on embedded-test: {said}\n", page)


def test_equal_values_everywhere_mark_nothing_and_say_why(plan: Plan, store: Store) -> None:
    for trial in plan.trials:
        equal(store, trial, {})
    page = render(reported(plan, store))["report.md"]
    assert "**" not in page
    assert "undecided: all 15 differences equal 0" in page
    assert "without variation there is nothing to judge their uncertainty by." in page


@pytest.mark.parametrize("state", ["pending", "diverged"])
def test_half_of_the_trials_are_compared_by_the_seeds_that_are_there(
    plan: Plan, store: Store, state: str
) -> None:
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        if (trial.axes["norm"], trial.axes["seed"]) != ("i_ln", 1):
            write_scored(store, trial, values[trial.id])
        elif state == "diverged":
            write_scored(store, trial, values[trial.id], step=37, outcome="diverged")
    files = render(reported(plan, store))
    words = "diverged at step 37" if state == "diverged" else "pending"
    assert f": seed 1: i_ln {words}." in files["report.md"]
    for row in numbers(files["differences.csv"]):
        assert (row["seeds"], row["left_out"]) == ("2", f"seed 1: i_ln {words}")
    assert ", n = 2)" in files["report.md"]


def test_an_infinite_mean_of_one_norm_is_shown_but_not_marked(plan: Plan, store: Store) -> None:
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        write = with_infinite if trial.axes["norm"] == "i_ln" else write_scored
        write(store, trial, values[trial.id])
    rows = numbers(render(reported(plan, store))["table.csv"])
    psnr = {row["norm"]: row for row in rows if row["metric"] == "psnr"}
    assert (psnr["i_ln"]["mean"], psnr["i_ln"]["in_best_set"]) == ("inf", "")


def test_learning_rates_are_compared_each_by_itself(tmp_path: Path, store: Store) -> None:
    text = SWEEP.replace("  seed:", "  lr: [1.0e-4, 2.0e-4]\n  seed:").replace(
        "[sr_x2, denoise_25]", "[sr_x2]"
    )
    plan = plan_of(tmp_path, text)
    values = drawn(plan, EQUAL, SETS)
    for trial in plan.trials:  # i_ln is better at one rate, and the other rate is better for all
        rate = trial.axes["lr"] == 2e-4
        shift = 1.0 * rate + 0.3 * (rate and trial.axes["norm"] == "i_ln")
        images = {name: scored(v["psnr"] + shift) for name, v in values[trial.id][SET].items()}
        write_scored(store, trial, {SET: images})
    report = reported(plan, store)
    for table in report.comparisons:
        by_row = {row.name: row.cells[0].is_marked for row in table.rows}
        assert by_row == {
            "layer_norm, lr 0.0001": False,
            "layer_norm, lr 0.0002": False,
            "i_ln, lr 0.0001": False,
            "i_ln, lr 0.0002": True,
        }
    rows = numbers(render(report)["differences.csv"])
    assert {(row["lr"], row["differs"]) for row in rows} == {
        ("0.0001", "False"),
        ("0.0002", "True"),
    }


def test_variance_components_are_those_of_the_truth(tmp_path: Path, store: Store) -> None:
    """60 images and 6 seeds: the seeds' variance to a factor, the others closely."""
    plan = plan_of(tmp_path, SWEEP.replace("[0, 1, 2]", "[0, 1, 2, 3, 4, 5]"))
    truth = replace(EQUAL, seed_sd=0.3, rest_sd=0.2, difficulty_sd=3.0)
    write_drawn(store, plan, truth, {SET: [f"{i:02}.png" for i in range(60)]})
    files = render(reported(plan, store))
    rows = [row for row in numbers(files["components.csv"]) if row["metric"] == "psnr"]
    assert {(row["seeds"], row["images"]) for row in rows} == {("6", "60")}
    of = {
        name: [float(row["variance"]) for row in rows if row["component"] == name]
        for name in ("seed", "image", "rest")
    }
    assert [len(found) for found in of.values()] == [8, 8, 8]
    assert np.mean(of["rest"]) == pytest.approx(0.2**2 / 2, rel=0.1)
    assert np.mean(of["image"]) == pytest.approx(9.0, rel=0.5)
    assert np.mean(of["seed"]) == pytest.approx(0.3**2 / 2, rel=0.7)
    (both,) = {row["note"] for row in rows if row["component"] == "seed x image"}
    assert both == "one score per seed and image: part of the rest"
    assert "Variance components of final scores" in files["index.html"]


def test_without_images_there_are_no_components_but_a_reason(plan: Plan, store: Store) -> None:
    values = drawn(plan, APART, SETS)
    for trial in plan.trials:
        write_scored(store, trial, values[trial.id], how=None)
    rows = numbers(render(reported(plan, store))["components.csv"])
    assert {(row["variance"], row["images"]) for row in rows} == {("", "0")}
    assert all(row["note"].startswith("no per-image scores") for row in rows)
