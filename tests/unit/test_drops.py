"""What low precision and tiles cost: differences of the same trials, and what nobody measured."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from orchestrator.plan import Plan, Trial
from orchestrator.report.contents import build
from orchestrator.report.drops import Drop, drops
from orchestrator.report.frame import read_frame
from orchestrator.report.page import render
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.store.base import Store
from tests.scored_store import (
    HOW,
    IMAGES,
    Images,
    Truth,
    drawn,
    scored,
    write_evaluation,
    write_scored,
)
from tests.sweeps import comparing, plan_of

SET = "embedded-test"
TRUTH = Truth({"layer_norm": 0.0, "i_ln": 0.2})
LOSSES = {"layer_norm": 0.5, "i_ln": 0.1}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, comparing(seed="0, 1, 2"), "held")


def lost(trial: Trial, image: int) -> float:
    """A loss that differs between seeds and images."""
    return LOSSES[trial.axes["norm"]] + 0.01 * trial.axes["seed"] + 0.02 * image


def lower(trial: Trial, plain: Images) -> dict[str, dict[str, float]]:
    return {
        image: scored(values["psnr"] - lost(trial, i))
        for i, (image, values) in enumerate(plain.items())
    }


def write(
    store: Store, plan: Plan, low: Callable[[Trial, Images], None] | None = None
) -> dict[str, Images]:
    """Every trial completed, and then evaluated as `low` does."""
    scores = drawn(plan, TRUTH, {SET: IMAGES})
    for trial in plan.trials:
        write_scored(store, trial, scores[trial.id])
        if low is not None:
            low(trial, scores[trial.id][SET])
    return {trial: found[SET] for trial, found in scores.items()}


def psnr_of(plan: Plan, store: Store) -> dict[tuple[str, str], Drop]:
    found = drops(read_frame(plan, store))
    return {(one.norm, one.place.run): one for one in found if one.place.metric == "psnr"}


def test_a_loss_is_that_of_the_same_trial_and_image_with_an_interval_over_seeds(
    plan: Plan, store: Store
) -> None:
    def at_int8(trial: Trial, plain: Images) -> None:
        write_evaluation(store, trial, SET, lower(trial, plain), precision="int8")

    write(store, plan, at_int8)
    for norm, found in ((norm, psnr_of(plan, store)[norm, "int8"]) for norm in LOSSES):
        means = [-np.mean([LOSSES[norm] + 0.01 * s + 0.02 * i for i in range(5)]) for s in range(3)]
        half = stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / math.sqrt(3)
        assert isinstance(found.other_seeds, Interval)
        assert found.other_seeds.estimate == pytest.approx(np.mean(means))
        assert found.other_seeds.high - found.other_seeds.low == pytest.approx(2 * half)
        assert found.against == "fp32"


def test_fp16_is_compared_with_fp32_whatever_version_computed_it(plan: Plan, store: Store) -> None:
    def at_fp16(trial: Trial, plain: Images) -> None:
        how = {**HOW, "half_revision": 2}
        write_evaluation(store, trial, SET, lower(trial, plain), precision="fp16", how=how)

    write(store, plan, at_fp16)
    assert psnr_of(plan, store)["i_ln", "fp16"].estimate == pytest.approx(-0.15)


def test_scores_made_in_another_way_are_not_compared(plan: Plan, store: Store) -> None:
    def otherwise(trial: Trial, plain: Images) -> None:
        how = {**HOW, "border_px": 4}
        write_evaluation(store, trial, SET, lower(trial, plain), precision="int8", how=how)

    write(store, plan, otherwise)
    found = psnr_of(plan, store)["i_ln", "int8"]
    assert found.estimate is None
    assert isinstance(found.other_seeds, Unknown)
    assert "scored with border_px 4" in found.other_seeds.reason


def test_tiles_are_compared_with_whole_images_at_the_same_precision(
    plan: Plan, store: Store
) -> None:
    def in_tiles(trial: Trial, plain: Images) -> None:
        write_evaluation(store, trial, SET, plain, precision="int8")
        write_evaluation(store, trial, SET, lower(trial, plain), precision="int8", tile=(64, 16))

    write(store, plan, in_tiles)
    found = [one for one in drops(read_frame(plan, store)) if one.place.tile]
    assert {(one.kind, one.against) for one in found} == {
        ("tile", "whole images"),
        ("precision", "fp32"),
    }
    (of_i_ln,) = (
        one for one in found if (one.kind, one.norm, one.place.metric) == ("tile", "i_ln", "psnr")
    )
    assert of_i_ln.estimate == pytest.approx(-0.15)
    against_fp32 = [one for one in found if one.kind == "precision"]
    assert all("not evaluated" in str(one.other_seeds) for one in against_fp32)


# --- the report -----------------------------------------------------------------------------------


def reported(plan: Plan, store: Store) -> Mapping[str, str]:
    return render(build(plan, read_frame(plan, store), datetime(2026, 1, 2, tzinfo=UTC)))


def test_what_nobody_measured_is_named_with_the_command_that_measures_it(
    plan: Plan, store: Store
) -> None:
    assert "## Low precision" not in reported(plan, store)["report.md"]  # nothing to evaluate yet
    write(store, plan)
    said = " ".join(reported(plan, store)["report.md"].split())
    of_all = "(6 of 6 completed trials)"
    assert f"Not measured: fp16 {of_all}, int8 {of_all}, int4 {of_all}." in said
    assert "`normsweep evaluate held.yaml --precision all` measures them." in said
    assert f"Not measured: tiles {of_all}. `normsweep evaluate held.yaml --tile 64`" in said


def test_the_page_has_the_losses_and_files_have_the_numbers(plan: Plan, store: Store) -> None:
    def at_all(trial: Trial, plain: Images) -> None:
        for precision in ("fp16", "int8", "int4"):
            write_evaluation(store, trial, SET, lower(trial, plain), precision=precision)
        write_evaluation(store, trial, SET, lower(trial, plain), tile=(64, 16))

    write(store, plan, at_all)
    files = reported(plan, store)
    assert "Not measured" not in files["index.html"]
    section = files["report.md"].partition("## Low precision")[2]
    row = next(line for line in section.splitlines() if line.startswith("| i_ln |"))
    assert row.count("\N{MINUS SIGN}0.15 [\N{MINUS SIGN}0.17, \N{MINUS SIGN}0.13]") == 3
    assert any(name.startswith("latex/tiles-") for name in files)
    rows = list(csv.DictReader(io.StringIO(files["drops.csv"])))
    assert len(rows) == 2 * 2 * 4
    assert {(row["inference_precision"], row["tile"], row["against"]) for row in rows} >= {
        ("int8", "", "fp32"),
        ("fp32", "64+16", "whole images"),
    }


def test_one_seed_has_the_interval_for_other_images(store: Store, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, comparing(), "one")

    def at_int8(trial: Trial, plain: Images) -> None:
        write_evaluation(store, trial, SET, lower(trial, plain), precision="int8")

    write(store, plan, at_int8)
    markdown = reported(plan, store)["report.md"]
    low = "\N{MINUS SIGN}0.18, \N{MINUS SIGN}0.10"
    assert f"\N{MINUS SIGN}0.14 (one seed, other images: [{low}])" in markdown
