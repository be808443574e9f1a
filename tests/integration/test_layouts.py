"""Set5 and BSDS400 give the same numbers, to the digit, in every layout that copies have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from orchestrator.datasets.check import check_set
from orchestrator.datasets.list import list_sets
from orchestrator.datasets.stage import stage_set
from orchestrator.errors import UserError
from trainers.build import build_benchmark
from trainers.data.cache import Cache
from trainers.data.given import find_for
from trainers.data.lookup import find_set
from trainers.evaluate import Score, evaluate
from trainers.tasks.deraining import Deraining
from trainers.tasks.packing import packed_pairs
from trainers.tasks.super_resolution import SuperResolution


class Layout(NamedTuple):
    """Where the ground truth and the LR images of a set are, by an image's name and the scale."""

    gt: str
    lr: str


LAYOUTS = {
    "plain": Layout(gt="Set5/{n}.png", lr="Set5/LR_bicubic/X{s}/{n}x{s}.png"),
    "HR": Layout(gt="Set5/HR/{n}.png", lr="Set5/LRx{s}/{n}x{s}.png"),
    "BasicSR": Layout(gt="Set5/GTmod12/{n}.png", lr="Set5/LRbicx{s}/{n}.png"),
    "HAT": Layout(gt="Set5/GTmod{s}/{n}.png", lr="Set5/LRbicx{s}/{n}.png"),
    "SelfExSR": Layout(
        gt="Set5/image_SRF_{s}/{n}_SRF_{s}_HR.png", lr="Set5/image_SRF_{s}/{n}_SRF_{s}_LR.png"
    ),
    "RCAN": Layout(gt="HR/Set5/x{s}/{n}_HR_x{s}.png", lr="LR/LRBI/Set5/x{s}/{n}_LRBI_x{s}.png"),
}
SCALES = (2, 4)
JUNK = ("@eaDir/0.png", ".ipynb_checkpoints/0.png", "._0.png")


def bring(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        os.symlink(source, target)


def set5(photographs: Path, root: Path, layout: str) -> Path:
    """Link Set5 into a layout, with files as systems leave them; returns the set's folder."""
    gt, lr = LAYOUTS[layout]
    source = photographs / "benchmarks/Set5"
    for path in sorted((source / "HR").glob("*.png")):
        for scale in SCALES:
            bring(path, root / gt.format(n=path.stem, s=scale))
            (small,) = (source / f"LR_bicubic/X{scale}").glob(f"{path.stem}*.png")
            bring(small, root / lr.format(n=path.stem, s=scale))
    folder = root / gt.partition("Set5")[0] / "Set5"
    for name in JUNK:
        bring(path, folder / name)
    return folder


def scores(root: Path, scale: int, *, given: bool) -> list[Score]:
    """Scores of a bilinear enlargement, which stands for a network and is the same everywhere."""
    images = build_benchmark("Set5", "sr", [root], scale=scale, lr_scale=scale if given else None)
    task = SuperResolution(scale, "given" if given else "u8")
    enlarge = nn.Upsample(scale_factor=scale, mode="bilinear")
    return evaluate(enlarge, task, images, torch.device("cpu"))


@pytest.fixture(scope="module")
def plain(photographs: Path) -> dict[int, list[Score]]:
    return {scale: scores(photographs / "benchmarks", scale, given=False) for scale in SCALES}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_set5_is_found_checked_staged_and_scored_alike_in_every_layout(
    photographs: Path,
    plain: dict[int, list[Score]],
    tmp_path: Path,
    layout: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "data"
    folder = set5(photographs, root, layout)
    check_set("Set5", str(root))
    said = capsys.readouterr().out
    assert "Set5: " in said and "5 images, all in order, and so are" in said
    assert said.count("hidden or system files left out: 3") == 1
    kept = json.loads((folder / "normsweep.json").read_text())["images"]
    assert not any(name in path for path in kept for name in ("@eaDir", ".ipynb", "._"))
    list_sets([str(root)], as_json=True)
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == "Set5"]
    assert Path(row["found"]) == folder
    stage_set("Set5", str(root), str(tmp_path / "copy"), reduced=True)
    for scale in SCALES:
        for place in (root, tmp_path / "copy"):
            assert scores(place, scale, given=False) == plain[scale]
            assert scores(place, scale, given=True) == plain[scale], (
                "the public LR images are those of u8"
            )


def test_unknown_copies_of_set5_with_lr_images_among_them_are_refused(
    photographs: Path, tmp_path: Path
) -> None:
    source = photographs / "benchmarks/Set5"
    for path in sorted((source / "HR").glob("*.png")):
        (small,) = (source / "LR_bicubic/X4").glob(f"{path.stem}*.png")
        bring(path, tmp_path / "Words/original" / path.name)
        bring(small, tmp_path / "Words/bicubic" / path.name)
        bring(path, tmp_path / "Sizes/one" / path.name)
        bring(small, tmp_path / "Sizes/two" / path.name)
    for name, said in (
        ("Words", "look like reduced or degraded copies"),
        ("Sizes", "same picture in more than one size"),
    ):
        with pytest.raises(UserError, match=said):
            check_set(name, str(tmp_path))


def test_bsds400_is_the_same_training_set_in_every_layout(
    photographs: Path, tmp_path: Path
) -> None:
    wanted = find_set("BSDS400", [photographs / "train"]).sha256
    files = sorted((photographs / "train/BSDS400").glob("*.jpg"))
    for layout in (
        "{n}",
        "HR/{n}",
        "GT/{n}",
        "GTmod12/{n}",
        "GTmod2/{n}",
        "image_SRF_2/{n}_SRF_2_HR",
    ):
        root = tmp_path / layout.partition("/")[0]
        for path in files:
            bring(path, root / "BSDS400" / f"{layout.format(n=path.stem)}.jpg")
        assert find_for("BSDS400", None, [root], task_scale=2).sha256 == wanted, layout


@pytest.mark.parametrize("layout", ["{scene}/{gt}/{n}.png", "train/{scene}/{gt}/{n}.png"])
def test_scenes_of_bsds400_train_on_their_own_partners_in_the_layout_of_gopro(
    photographs: Path, tmp_path: Path, layout: str
) -> None:
    """Each scene has a 0.png and a 1.png. The plain layout and GoPro's give the same pairs."""
    files = iter(sorted((photographs / "train/BSDS400").glob("*.jpg")))
    above = layout.partition("{")[0]
    for scene in ("s0", "s1", "s2"):
        for n in (0, 1):
            pixels = np.asarray(Image.open(next(files)))[:64, :64]
            for side, word in (("target", "sharp"), ("input", "blur")):
                image = Image.fromarray(pixels if side == "target" else 255 - pixels)
                path = tmp_path / "plain/Scenes" / side / above / scene / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
                bring(path, tmp_path / "gopro/Scenes" / layout.format(scene=scene, gt=word, n=n))
    plain, gopro = (find_set("Scenes", [tmp_path / side]) for side in ("plain", "gopro"))
    assert plain.sha256 == gopro.sha256
    pairs = packed_pairs(gopro, Deraining(), Cache(tmp_path / "cache"))
    assert len(pairs) == 6
    assert all(np.array_equal(255 - pair.lq, pair.gt) for pair in pairs)
    check_set("Scenes", str(tmp_path / "gopro"))
    stage_set("Scenes", str(tmp_path / "gopro"), str(tmp_path / "copy"))
    assert find_set("Scenes", [tmp_path / "copy"]).sha256 == plain.sha256
