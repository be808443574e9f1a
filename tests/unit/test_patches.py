"""Training patches: bits that never change, what a recipe may do without, and sampling by epoch."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import tiny_spec
from trainers.build import build_patches
from trainers.data.cache import Cache
from trainers.data.lookup import find_set
from trainers.loop import PROBE_STEP
from trainers.spec import DataSpec
from trainers.steps import micro_batches
from trainers.tasks.base import Pair, Task
from trainers.tasks.denoising import Denoising
from trainers.tasks.jpeg import JpegArtefacts
from trainers.tasks.patches import Epochs, TrainingPatches
from trainers.tasks.super_resolution import SuperResolution


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


X2 = [Pair(picture(20 + i, 31 - i, i), picture(41 + 2 * i, 62 - 2 * i, 10 + i)) for i in range(5)]
SAME = [Pair(pair.gt, pair.gt) for pair in X2]


@pytest.mark.parametrize(
    ("task", "pairs", "digests"),
    [
        (
            SuperResolution(2),
            X2,
            "28b860d1b83f9685 1632133387408808 3a3a690edae35592 d139ef748420b845",
        ),
        (
            Denoising(25.0),
            SAME,
            "6cfd7142c9603985 896257c3e9fd16dd 161e838e554f46b7 0aeb5c7b9561d468",
        ),
    ],
    ids=["x2", "noise"],
)
def test_the_patches_of_a_default_recipe_never_change(
    task: Task, pairs: list[Pair], digests: str
) -> None:
    """They were recorded when flips, rotations and sampling were not yet a choice."""
    for (seed, step, index), digest in zip(
        [(0, 0, 0), (0, 3, 1), (7, 299_999, 15), (0, PROBE_STEP, 2)], digests.split(), strict=True
    ):
        lq, gt = TrainingPatches(pairs, task, 8, seed).batch(step, slice(index, index + 1))
        assert (
            hashlib.sha256(lq.numpy().tobytes() + gt.numpy().tobytes())
            .hexdigest()
            .startswith(digest)
        )


def turned(pair: tuple[torch.Tensor, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A patch as drawn, and flipped and turned in every other way. Flipped ones come last."""
    flipped = [side.flip(-1) for side in pair]
    sides = [
        [torch.rot90(side, k, (-2, -1)) for side in made]
        for made in (pair, flipped)
        for k in range(4)
    ]
    return [(lq, gt) for lq, gt in sides]


def ways(flips: bool, rotations: bool) -> set[int]:
    """The ways of `turned`, of eight, in which many patches of a recipe differ from plain crops."""
    crops = TrainingPatches(X2, SuperResolution(2), 8, seed=3, flips=False, rotations=False)
    chosen = TrainingPatches(X2, SuperResolution(2), 8, seed=3, flips=flips, rotations=rotations)
    seen = set()
    for step in range(40):
        plain, patch = crops.batch(step, slice(0, 1)), chosen.batch(step, slice(0, 1))
        found = [
            way
            for way, (lq, gt) in enumerate(turned(plain))
            if torch.equal(lq, patch[0]) and torch.equal(gt, patch[1])
        ]
        assert len(found) == 1, "the same crop of the same image, turned or not"
        seen.add(found[0])
    return seen


@pytest.mark.parametrize(
    ("flips", "rotations", "expected"),
    [
        (True, True, set(range(8))),
        (True, False, {0, 4}),
        (False, True, {0, 1, 2, 3}),
        (False, False, {0}),
    ],
)
def test_flips_and_rotations_are_what_the_recipe_says(
    flips: bool, rotations: bool, expected: set[int]
) -> None:
    assert ways(flips, rotations) == expected


def test_a_patch_that_is_not_turned_is_cut_out_as_it_lies() -> None:
    patches = TrainingPatches(X2, SuperResolution(2), 8, seed=0, flips=False, rotations=False)
    for lq, gt in zip(*patches.batch(0, slice(0, 20)), strict=True):
        small, large = (
            (side.permute(1, 2, 0) * 255).round().numpy().astype(np.uint8) for side in (lq, gt)
        )
        assert any(
            np.array_equal(pair.lq[top : top + 8, left : left + 8], small)
            and np.array_equal(pair.gt[2 * top : 2 * top + 16, 2 * left : 2 * left + 16], large)
            for pair in X2
            for top in range(pair.lq.shape[0] - 7)
            for left in range(pair.lq.shape[1] - 7)
        )


def test_without_flips_and_rotations_the_noise_is_the_same() -> None:
    flat = [Pair(np.full((30, 30, 3), 100, np.uint8), np.full((30, 30, 3), 100, np.uint8))]
    with_them = TrainingPatches(flat, Denoising(25.0), 8, seed=1).batch(0, slice(0, 4))
    without = TrainingPatches(flat, Denoising(25.0), 8, seed=1, flips=False, rotations=False).batch(
        0, slice(0, 4)
    )
    assert torch.equal(with_them[0], without[0])


# --- by epoch


def numbered(count: int) -> list[Pair]:
    """Images that can be told apart by their value."""
    images = [np.full((12 + i % 3, 12 + i % 5, 3), i, np.uint8) for i in range(count)]
    return [Pair(image, image) for image in images]


class AsIs(Denoising):
    def degrade(self, lq, random):
        return lq


def by_epoch(count: int, batch_size: int, seed: int = 5) -> TrainingPatches:
    return TrainingPatches(numbered(count), AsIs(), 8, seed, epochs=Epochs(count, batch_size, seed))


def images_in(gt: torch.Tensor) -> list[int]:
    return [round(value * 255) for value in gt[:, 0, 0, 0].tolist()]


def order_of(patches: TrainingPatches, batch_size: int, steps: range) -> list[int]:
    return [
        image for step in steps for image in images_in(patches.batch(step, slice(0, batch_size))[1])
    ]


@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (10, 4), (7, 16), (1, 3), (4, 4)])
def test_every_image_comes_once_an_epoch_whether_or_not_the_batch_divides_the_set(
    count: int, batch_size: int
) -> None:
    order = order_of(by_epoch(count, batch_size), batch_size, range(6 * count))
    epochs = [order[start : start + count] for start in range(0, len(order), count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count > 4:
        assert len({tuple(epoch) for epoch in epochs}) > 0.9 * len(epochs), (
            "each epoch has an order of its own"
        )


def test_an_epochs_order_follows_the_seed() -> None:
    orders = [order_of(by_epoch(12, 4, seed), 4, range(3)) for seed in (0, 1, 2**31 - 1)]
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0] == order_of(by_epoch(12, 4, 0), 4, range(3))


def test_first_places_are_evenly_spread_over_the_images() -> None:
    """Over 3,000 epochs of six images each comes first 500 times, give or take five standard
    deviations of 20.
    """
    epochs = Epochs(6, 6, seed=11)
    first = Counter(epochs.image(step, 0) for step in range(3000))
    assert all(abs(first[image] - 500) < 100 for image in range(6))


def test_epochs_are_the_same_for_any_number_of_processes_slices_and_after_a_resumption() -> None:
    count, batch_size = 10, 4
    whole = order_of(by_epoch(count, batch_size), batch_size, range(8))
    slices = [slice(0, 1), slice(1, 2), slice(2, 4)]
    places = [(step, part) for step in range(8) for part in slices]
    for workers in (0, 1, 2):
        stream = by_epoch(count, batch_size).stream(iter(places), workers, pinned=False)
        assert [image for _, gt in stream for image in images_in(gt)] == whole
    assert order_of(by_epoch(count, batch_size), batch_size, range(5, 8)) == whole[5 * batch_size :]
    backwards = by_epoch(count, batch_size)
    assert [order_of(backwards, batch_size, range(step, step + 1)) for step in range(7, -1, -1)][
        ::-1
    ] == [whole[i : i + batch_size] for i in range(0, len(whole), batch_size)]


@pytest.mark.parametrize(
    "placement", [{}, {"micro_batch": 1}, {"workers": 2}, {"workers": 2, "micro_batch": 1}]
)
def test_workers_and_accumulation_together_see_every_image_once_an_epoch(
    tmp_path: Path, placement: dict[str, int]
) -> None:
    (tmp_path / "tones").mkdir()
    for i, pair in enumerate(numbered(7)):
        Image.fromarray(pair.gt).save(tmp_path / "tones" / f"{i}.png")
    spec = tiny_spec(task="denoise_25", training={"sampling": "epoch"}, placement=placement)
    data = DataSpec(train="tones", train_sha256=find_set("tones", [tmp_path]).sha256)
    spec = spec.model_copy(update={"data": data})
    ranks = [
        build_patches(spec, [tmp_path], Cache(tmp_path / "cache"))
        for _ in range(spec.placement.workers)
    ]
    order = [
        image
        for step in range(7)  # of 4 images: 4 epochs of 7
        for rank, patches in enumerate(ranks)
        for part in micro_batches(spec, rank)
        for image in images_in(patches.batch(step, part)[1])
    ]
    assert [sorted(order[start : start + 7]) for start in range(0, 28, 7)] == [list(range(7))] * 4


def test_an_epochs_crops_are_those_of_independent_sampling_where_the_image_is_the_same() -> None:
    """The image that independent sampling would take is drawn all the same, and dropped."""
    one = [Pair(picture(30, 30), picture(30, 30))]
    independent = TrainingPatches(one, JpegArtefacts(30), 8, seed=2)
    epoch = TrainingPatches(one, JpegArtefacts(30), 8, seed=2, epochs=Epochs(1, 4, 2))
    for step in range(3):
        for a, b in zip(
            independent.batch(step, slice(0, 4)), epoch.batch(step, slice(0, 4)), strict=True
        ):
            assert torch.equal(a, b)
