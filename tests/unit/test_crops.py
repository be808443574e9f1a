"""Crops of restored images: what trials keep, and which of it the report shows."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from orchestrator.plan import Plan, Trial
from orchestrator.report.crops import Scene, scenes
from orchestrator.report.frame import read_frame
from orchestrator.report.page import write_report
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.scored_store import IMAGES, Truth, drawn, write_scored
from tests.sweeps import comparing, plan_of
from trainers.crops import NUM_IMAGES, SIDE_PX, Keeper, crops
from trainers.data.images import NamedImage
from trainers.tasks.denoising import Denoising

SET = "embedded-test"
PLACE = f"40,168/{SET}/a.png"
OTHER = f"8,16/{SET}/b.png"
TRUTH = Truth({"layer_norm": 0.0, "i_ln": 0.2})
Arrays = dict[str, np.ndarray]


def of_norm(trial: Trial) -> Arrays:
    """Two grey crops; i_ln has a bright square at rows 60 to 69, columns 30 to 39 of the second."""
    grey = np.full((96, 96, 3), 100, dtype=np.uint8)
    bright = grey.copy()
    if trial.axes["norm"] == "i_ln":
        bright[60:70, 30:40] = 200
    sides = {"restored": (grey, bright), "input": (grey, grey), "truth": (grey, grey)}
    return {
        f"{side}/{at}": pixels
        for side, both in sides.items()
        for at, pixels in zip((PLACE, OTHER), both, strict=True)
    }


def write(store: Store, plan: Plan, arrays_of: Callable[[Trial], Arrays | None] = of_norm) -> None:
    scores = drawn(plan, TRUTH, {SET: IMAGES})
    for trial in plan.trials:
        write_scored(store, trial, scores[trial.id])
        if (arrays := arrays_of(trial)) is not None:
            store.put(key_of(trial), save(arrays))


def key_of(trial: Trial) -> str:
    return f"trials/{trial.id}/probes/crops/step-{trial.spec.training.steps:08d}-1.safetensors"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, comparing(width="12, 24", seed="0, 1"), "held")


def shown(plan: Plan, store: Store) -> tuple[Scene, ...]:
    return scenes(read_frame(plan, store), store)


def test_the_window_is_where_the_norms_differ_most_at_the_largest_size(
    plan: Plan, store: Store
) -> None:
    write(store, plan)
    (scene,) = shown(plan, store)
    assert (scene.size, scene.seed, scene.image) == ("w24 d2", 0, f"{SET}/b.png")
    row, column = scene.at
    # The first of the windows with the whole square: it ends with the square's last row and column.
    assert (row, column) == (8 + 70 - 48, 16 + 0)
    assert (scene.norms["i_ln"] == 200).sum() == 3 * 10 * 10
    assert scene.truth.shape == scene.norms["i_ln"].shape == (48, 48, 3)
    assert scene.spread == pytest.approx(np.sqrt(50**2 * 100 / 48**2))


def test_a_norm_without_usable_crops_is_named_and_one_norm_alone_is_not_shown(
    tmp_path: Path, store: Store
) -> None:
    norms = "layer_norm, i_ln, rms_norm, none, rezero"
    plan = plan_of(tmp_path, comparing(norm=norms), "five")
    truth = Truth(dict.fromkeys(("layer_norm", "i_ln", "rms_norm", "none", "rezero"), 0.0))
    scores = drawn(plan, truth, {SET: IMAGES})
    for trial in plan.trials:
        write_scored(store, trial, scores[trial.id])
        match trial.axes["norm"]:
            case "layer_norm" | "i_ln":
                store.put(key_of(trial), save(of_norm(trial)))
            case "rms_norm":
                store.put(key_of(trial), b"cut")
            case "none":
                others = {name.replace("b.png", "c.png"): v for name, v in of_norm(trial).items()}
                store.put(key_of(trial), save(others))
    (scene,) = shown(plan, store)
    assert scene.lacking == {
        "rezero": "it kept no crops",
        "rms_norm": "its crops cannot be read",
        "none": "its crops are of other images",
    }
    for trial in plan.trials[1:]:
        store.delete(key_of(trial))
    assert shown(plan, store) == ()


def test_equal_restorations_are_said_to_be_equal(plan: Plan, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs"))
    write(store, plan, lambda trial: of_norm(plan.trials[0]))
    page = Path(write_report(plan, store.uri).page)
    assert "The norms restored every crop alike." in page.read_text()


def test_the_page_carries_the_pixels_themselves(plan: Plan, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs"))
    write(store, plan)
    page = Path(write_report(plan, store.uri).page)
    text, svg = page.read_text(), (page.parent / "figures" / "crops-1.svg").read_text()
    found = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]
    assert [(image == 200).any() for image in pixels] == [False, False, True, False]
    names = ["input", "layer_norm", "i_ln", "ground truth"]
    assert re.findall(r"<text[^>]*>([^<]*)</text>", svg) == names
    assert all(one in text for one in found)
    assert f"{SET}/b.png, 48 \N{MULTIPLICATION SIGN} 48 pixels from row 30, column 16" in text
    assert "width 24, depth 2" in text


def test_without_crops_there_is_no_section(plan: Plan, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs"))
    write(store, plan, lambda trial: None)
    assert "Restored crops" not in Path(write_report(plan, store.uri).page).read_text()


# --- what trials keep -----------------------------------------------------------------------------


def test_the_middle_of_the_first_images_is_kept() -> None:
    random = np.random.default_rng(0)
    images = [
        NamedImage(f"{i}.png", random.integers(0, 256, (100, 130 + i, 3), dtype=np.uint8))
        for i in range(NUM_IMAGES + 1)
    ]
    keeper = Keeper(images)
    for image in images:
        keeper.keep(image.name, 255 - image.pixels)
    found = crops(Denoising(25.0), "Set5", images, keeper.kept)
    assert len(found) == 3 * NUM_IMAGES
    middle = images[1].pixels[2:98, 17:113]
    assert np.array_equal(found["truth/2,17/Set5/1.png"], middle)
    assert np.array_equal(found["restored/2,17/Set5/1.png"], 255 - middle)
    assert found["input/2,17/Set5/1.png"].shape == (SIDE_PX, SIDE_PX, 3)
    assert sum(pixels.nbytes for pixels in found.values()) < 200_000


def test_an_image_smaller_than_a_crop_is_kept_whole() -> None:
    image = NamedImage("a.png", np.zeros((20, 30, 3), dtype=np.uint8))
    keeper = Keeper([image])
    keeper.keep("a.png", image.pixels)
    found = crops(Denoising(25.0), "Set5", [image], keeper.kept)
    assert found["restored/0,0/Set5/a.png"].shape == (20, 30, 3)
