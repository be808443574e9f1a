"""What the degraded input scores: measured like any output, and the last row of each comparison."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from orchestrator.plan import Plan
from orchestrator.report.contents import build
from orchestrator.report.frame import read_frame
from orchestrator.report.page import render
from orchestrator.store.base import Store
from tests.scored_store import (
    HOW,
    IMAGES,
    Truth,
    drawn,
    write_drawn,
    write_evaluation,
    write_scored,
)
from tests.sweeps import comparing, plan_of
from trainers.catalog import TASKS
from trainers.data.images import NamedImage
from trainers.evaluate import PlainInput, score_inputs
from trainers.tasks.denoising import Denoising
from trainers.tasks.jpeg import JpegArtefacts
from trainers.tasks.super_resolution import SuperResolution

TRUTH = Truth({"layer_norm": 0.0, "i_ln": 0.2})
SET = "embedded-test"


def image(side: int = 32) -> NamedImage:
    y, x = np.mgrid[:side, :side] / side
    pixels = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x * y)], axis=-1)
    return NamedImage("a.png", (255 * pixels).round().astype(np.uint8))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """10 log10(255^2 / mean square error), in float64."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other.astype(float)) ** 2)))


def test_the_noisy_image_is_scored_clamped_and_rounded() -> None:
    (score,) = score_inputs(Denoising(25.0), [image()])
    noise = np.random.RandomState(0).randn(32, 32, 3)
    noisy = np.round(np.clip(image().pixels / 255 + 25 / 255 * noise, 0, 1) * 255)
    assert score["psnr"] == pytest.approx(psnr(noisy, image().pixels), abs=0.02)
    assert (score["name"], score["non_finite"]) == ("a.png", 0.0)


def test_a_small_image_is_enlarged_by_matlabs_bicubic_and_scored_without_its_border() -> None:
    """The kernel of Keys with a = -0.5 on a ramp gives the ramp back, away from the border."""
    ramp = (
        torch.linspace(0, 1, 16, dtype=torch.float64).repeat(16, 1)[None, None].repeat(1, 3, 1, 1)
    )
    enlarged = PlainInput(2)(ramp)[0, 0, 8, 6:-6]
    steps = torch.diff(enlarged)
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / 30))
    (score,) = score_inputs(SuperResolution(2), [image()])
    (nearest,) = (
        psnr(np.repeat(np.repeat(small, 2, 0), 2, 1), image().pixels)
        for small in [SuperResolution(2).prepare(image().pixels, None).lq]
    )
    assert score["psnr"] > nearest


def test_the_kernel_is_not_that_of_torchs_plain_bicubic() -> None:
    spike = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    spike[..., 8, 8] = 1
    torchs = F.interpolate(spike, scale_factor=2, mode="bicubic", align_corners=False)
    assert (PlainInput(2)(spike) - torchs).abs().max() > 0.01


def test_an_image_that_needs_no_restoring_scores_infinity() -> None:
    flat = NamedImage("flat.png", np.full((16, 16, 3), 128, dtype=np.uint8))
    assert math.isinf(score_inputs(JpegArtefacts(90), [flat])[0]["psnr"])


def test_every_task_names_its_input() -> None:
    assert all(entry.facts["input"] for entry in TASKS)


# --- the report -----------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, comparing(seed="0, 1"), "held")


def event(psnr: float, **fields: Any) -> dict[str, Any]:
    images = [{"name": name, "psnr": psnr, "ssim": 0.8, "non_finite": 0.0} for name in IMAGES]
    said = {"step": 0, "kind": "event", "event": "input_scores", "set": SET, **HOW}
    return {**said, "images": images, **fields}


def reported(plan: Plan, store: Store) -> Mapping[str, str]:
    return render(build(plan, read_frame(plan, store), datetime(2026, 1, 2, tzinfo=UTC)))


def row_of(markdown: str) -> str:
    return next(line for line in markdown.splitlines() if line.startswith("| degraded input"))


def test_the_last_row_of_a_comparison_is_the_degraded_input(plan: Plan, store: Store) -> None:
    scores = drawn(plan, TRUTH, {SET: IMAGES})
    for trial in plan.trials:
        write_scored(store, trial, scores[trial.id], other_points=[event(24.125)])
    files = reported(plan, store)
    assert row_of(files["report.md"]).startswith("| degraded input | 24.12 (bicubic) | 0.8000")
    assert ">degraded input<" in files["index.html"]
    first = next(csv.DictReader(io.StringIO(files["inputs.csv"])))
    assert {**first, "how_scored": ""} == {
        "task": "sr_x2",
        "dataset": SET,
        "metric": "psnr",
        "input": "bicubic",
        "mean": "24.125",
        "images": "5",
        "how_scored": "",
    }
    assert "input" not in {
        row["source"] for row in csv.DictReader(io.StringIO(files["images.csv"]))
    }


def test_trials_whose_inputs_score_differently_give_no_mean(plan: Plan, store: Store) -> None:
    scores = drawn(plan, TRUTH, {SET: IMAGES})
    for trial, value in zip(plan.trials, (24.0, 24.0, 25.0, 24.0), strict=True):
        write_scored(store, trial, scores[trial.id], other_points=[event(value)])
    said = row_of(reported(plan, store)["report.md"])
    assert "(bicubic, differs between trials: 24.00 and 25.00)" in said


def test_a_store_without_them_says_what_to_run_and_one_evaluation_fills_the_row(
    plan: Plan, store: Store
) -> None:
    assert "(pending)" in row_of(reported(plan, store)["report.md"])
    write_drawn(store, plan, TRUTH)
    markdown = reported(plan, store)["report.md"]
    assert "| degraded input |  (not recorded)" in row_of(markdown).replace("****", "")
    command = f"`normsweep evaluate {plan.trials[0].id} --benchmark {SET}`"
    assert " ".join(markdown.split()).count(command) == 1
    images = drawn(plan, TRUTH, {SET: IMAGES})[plan.trials[0].id][SET]
    inputs = event(24.125)["images"]
    write_evaluation(store, plan.trials[0], SET, images, how={**HOW, "input_images": inputs})
    filled = reported(plan, store)["report.md"]
    assert row_of(filled).startswith("| degraded input | 24.12 (bicubic)")
    assert command not in filled
