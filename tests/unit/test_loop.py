"""Parts of the loop that are numbers alone: learning rate, slices, EMA; and scores of images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny import tiny_spec
from trainers.build import build_benchmarks
from trainers.data.images import NamedImage
from trainers.ema import Ema
from trainers.evaluate import evaluate, restore
from trainers.norms.batch_norm import BatchNorm
from trainers.steps import learning_rate, micro_batches
from trainers.tasks.denoising import Denoising

CPU = torch.device("cpu")


def test_the_rate_halves_at_250k_of_300k_steps() -> None:
    training = tiny_spec(training={"steps": 300_000, "lr": 2e-4}).training
    rates = [learning_rate(training, step) for step in (0, 249_999, 250_000, 299_999)]
    assert rates == [2e-4, 2e-4, 1e-4, 1e-4]


@pytest.mark.parametrize(
    ("workers", "micro_batch"), [(1, None), (1, 2), (2, None), (2, 3), (3, 2), (6, 1)]
)
def test_the_slices_of_all_ranks_are_the_batch_once(workers: int, micro_batch: int | None) -> None:
    spec = tiny_spec(
        training={"batch_size": 12}, placement={"workers": workers, "micro_batch": micro_batch}
    )
    slices = [part for rank in range(workers) for part in micro_batches(spec, rank)]
    assert [index for part in slices for index in range(part.start, part.stop)] == list(range(12))


def test_ema_averages_parameters_and_copies_buffers() -> None:
    model = nn.BatchNorm1d(3)
    ema = Ema(model, 0.9)
    nn.init.constant_(model.weight, 3.0)
    model.running_mean.fill_(7.0)
    ema.update(model.state_dict())
    torch.testing.assert_close(ema.state()["weight"], torch.full((3,), 1.2))
    assert torch.equal(ema.state()["running_mean"], model.running_mean)


@pytest.mark.parametrize(
    ("buffers", "expected"), [("copied", 5.0), ("averaged", 0.5), ("untouched", 0.0)]
)
def test_running_statistics_of_the_ema_follow_what_the_norm_asks_for(
    buffers: str, expected: float
) -> None:
    model = BatchNorm(3)
    ema = Ema(model, 0.9, buffers)
    model.running_mean.fill_(5.0)
    ema.update(model.state_dict())
    torch.testing.assert_close(ema.state()["running_mean"], torch.full((3,), expected))


class Constant(nn.Module):
    """Gives `value` for every pixel."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


@pytest.mark.parametrize(
    ("value", "pixel"),
    [(-0.3, 0), (1.7, 255), (0.5, 128), (100.4 / 255, 100), (math.nan, 0), (math.inf, 0)],
)
def test_outputs_are_clamped_and_rounded_and_0_where_not_finite(value: float, pixel: int) -> None:
    restored, non_finite = restore(
        Constant(value), Denoising(25.0), np.zeros((12, 14, 3), dtype=np.uint8), CPU
    )
    assert restored.dtype == np.uint8
    assert non_finite == (not math.isfinite(value))
    assert np.array_equal(restored, np.full((12, 14, 3), pixel))


def test_the_noise_of_benchmarks_is_numpys_seed_0_in_pixel_order() -> None:
    image = np.full((20, 24, 3), 128, dtype=np.uint8)
    noise = np.random.RandomState(0).randn(20, 24, 3)
    expected = np.round(np.clip(128 / 255 + 25 / 255 * noise, 0, 1) * 255)
    off = np.abs(restore(nn.Identity(), Denoising(25.0), image, CPU)[0].astype(int) - expected)
    assert off.max() <= 1  # the last bit of float32 decides which way a half is rounded
    assert (off > 0).mean() < 0.001


def test_images_dealt_out_over_ranks_are_scored_once_each() -> None:
    random = np.random.default_rng(0)
    images = [
        NamedImage(str(i), random.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for i in range(5)
    ]
    parts = [
        evaluate(Constant(0.5), Denoising(25.0), images, CPU, index_slice=slice(rank, None, 3))
        for rank in range(3)
    ]
    whole = evaluate(Constant(0.5), Denoising(25.0), images, CPU, index_slice=slice(None))
    assert sorted((s for part in parts for s in part), key=lambda s: s["name"]) == whole
    assert {score["name"] for score in whole} == {"0", "1", "2", "3", "4"}


def test_the_held_out_photographs_are_the_benchmark_of_their_name() -> None:
    benchmarks = build_benchmarks(tiny_spec(observe={"evaluate": ("embedded-test",)}), ())
    assert {name: len(images) for name, images in benchmarks.items()} == {"embedded-test": 2}
