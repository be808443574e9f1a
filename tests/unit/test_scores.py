"""Scores of single images come into the frame from journals and from evaluations."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan import Plan, Trial
from orchestrator.report.contents import build
from orchestrator.report.frame import Frame, read_frame
from orchestrator.report.page import render
from orchestrator.store.attempts import new_attempt
from orchestrator.store.base import Store
from orchestrator.store.journals import put_segment
from orchestrator.store.results import write_evaluation
from tests.damage import files_of
from tests.sweeps import plan_of

SWEEP = """# Does it hold?
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, i_ln]
  task: [sr_x2]
  precision: [fp32, bf16]
data: {evaluate: [embedded-test]}
"""
MADE = {"host": "bench-1", "versions": {}, "commit": "", "placement": {}}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, SWEEP, "held")


def scores(step: int, *images: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "step": step,
        "kind": "event",
        "event": "scores",
        "set": "Set5",
        "images": list(images),
        **fields,
    }


def write_events(store: Store, trial: Trial, *events: dict[str, Any]) -> None:
    """An attempt whose journal has these lines."""
    lines = [{"seq": i, "time": 1_764_000_000.0 + i, **event} for i, event in enumerate(events)]
    attempt = new_attempt(store, trial, MADE)
    put_segment(
        store, trial.id, attempt, 0, "".join(json.dumps(line) + "\n" for line in lines).encode()
    )


def evaluate(store: Store, trial: Trial, name: str, *images: dict[str, Any], **fields: Any) -> None:
    record = {
        "benchmark": "Set5",
        "precision": "fp32",
        "images": list(images),
        "step": 40,
        **fields,
    }
    write_evaluation(store, trial.id, name, record)


def rows(frame: Frame, *columns: str) -> list[tuple[Any, ...]]:
    return list(frame.images[list(columns)].itertuples(index=False, name=None))


def test_what_training_scored_is_a_row_for_each_image_and_metric(plan: Plan, store: Store) -> None:
    a = {"name": "a.png", "psnr": 30.0, "ssim": 0.9, "non_finite": 0.0}
    b = {"name": "b.png", "psnr": "inf", "ssim": "nan", "non_finite": 0.0}
    write_events(store, plan.trials[3], scores(10, a), scores(20, a, b))
    frame = read_frame(plan, store)
    assert rows(frame, "step", "image", "metric")[:4] == [
        (10, "a.png", "psnr"),
        (10, "a.png", "ssim"),
        (10, "a.png", "non_finite"),
        (20, "a.png", "psnr"),
    ]
    assert rows(frame, "image", "metric", "value")[6] == ("b.png", "psnr", math.inf)
    assert set(
        rows(frame, "trial", "norm", "precision", "set", "source", "inference_precision", "tile")
    ) == {(plan.trials[3].id, "i_ln", "bf16", "Set5", "training", "", "")}


def test_of_two_attempts_the_first_to_score_a_set_at_a_step_counts(
    plan: Plan, store: Store
) -> None:
    for psnr in (30.0, 31.0):
        write_events(store, plan.trials[0], scores(10, {"name": "a.png", "psnr": psnr}))
    write_events(store, plan.trials[0], scores(20, {"name": "a.png", "psnr": 32.0}))
    assert rows(read_frame(plan, store), "step", "value") == [(10, 30.0), (20, 32.0)]


def test_evaluations_say_how_the_network_ran(plan: Plan, store: Store) -> None:
    image = {"name": "a.png", "psnr": 30.0}
    evaluate(store, plan.trials[0], "Set5-fp32", image)
    evaluate(
        store,
        plan.trials[0],
        "Set5-int8",
        image,
        precision="int8",
        per_channel=True,
        tile_px=64,
        overlap_px=16,
    )
    found = rows(
        read_frame(plan, store),
        "precision",
        "inference_precision",
        "tile",
        "step",
        "source",
        "value",
    )
    assert found == [
        ("fp32", "fp32", "", 40, "evaluation", 30.0),
        ("fp32", "int8 per channel", "64+16", 40, "evaluation", 30.0),
    ]


def test_a_damaged_evaluation_is_named_and_gives_no_scores(
    plan: Plan, store: Store, tmp_path: Path
) -> None:
    evaluate(store, plan.trials[0], "Set5-fp32", {"name": "a.png", "psnr": 30.0})
    (path,) = files_of(tmp_path / "runs", "evaluation")
    path.write_bytes(path.read_bytes().replace(b"30.0", b"39.0"))
    frame = read_frame(plan, store)
    assert frame.images.empty
    place = path.relative_to(tmp_path / "runs").as_posix()
    assert f"{place} does not have the checksum that it states" in frame.damage


@pytest.mark.parametrize(
    "event",
    [
        scores(10, {"name": "a.png", "psnr": "many"}),
        scores(10, {"psnr": 30.0}),
        scores(10, images="none"),
        {"step": 10, "kind": "event", "event": "checkpoint", "name": "step-00000010"},
        {"step": 10, "kind": "event"},
    ],
)
def test_other_events_and_shapes_are_passed_over(
    plan: Plan, store: Store, event: dict[str, Any]
) -> None:
    write_events(store, plan.trials[0], event)
    frame = read_frame(plan, store)
    assert frame.images.empty
    assert frame.damage == ()


def test_the_report_has_the_scores_of_images_as_a_file(plan: Plan, store: Store) -> None:
    write_events(store, plan.trials[0], scores(10, {"name": "caf\udce9.png", "psnr": 30.0}))
    files = render(build(plan, read_frame(plan, store), datetime(2026, 1, 2, tzinfo=UTC)))
    (row,) = csv.DictReader(io.StringIO(files["images.csv"]))
    assert (row["trial"], row["image"], row["value"]) == (plan.trials[0].id, "caf?.png", "30.0")
    assert '<a href="images.csv">images.csv</a>' in files["index.html"]
    assert all(text.encode() for text in files.values())
