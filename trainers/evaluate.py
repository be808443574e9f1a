"""Benchmarks on whole images: degrade, restore, round to uint8, score.

The same code evaluates in training and from a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers.catalog import METRICS
from trainers.data.images import NamedImage, Pixels
from trainers.data.resize import upsample
from trainers.metrics.image_quality import compared
from trainers.tasks.base import Task

# Of every benchmark image; drawn by numpy's legacy generator, as published code does.
NOISE_SEED = 0

# How near the restored image `name` is to its ground truth: a number for each of METRICS, and
# `non_finite`, the share of its values that were not finite.
Score = dict[str, Any]


@dataclass(frozen=True)
class Tiling:
    """Squares of `size_px` LQ pixels, restored with `overlap_px` of the image around them.

    Where a norm takes its statistics over the whole image (i-LN, InstanceNorm), a network in tiles
    is not the network that sees the image whole: never compare the two.
    """

    size_px: int
    overlap_px: int = 16


class PlainInput(nn.Module):
    """The degraded input itself as the output: what a network's score is held against.

    Where LQ is smaller than GT, MATLAB's bicubic enlarges it by `scale` in float64; `restore`
    rounds it once, as it does any output. Takes one image, (1, 3, h, w).
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, lq: Tensor) -> Tensor:
        if self.scale == 1:
            return lq
        image = lq[0].permute(1, 2, 0).double().cpu().numpy()
        return torch.from_numpy(upsample(image, self.scale)).permute(2, 0, 1)[None]


def restore(
    model: nn.Module, task: Task, lq: Pixels, device: torch.device, tiling: Tiling | None = None
) -> tuple[Pixels, float]:
    """The network's output for an image, (H, W, 3) uint8, and the share that was not finite.

    Values are clamped to [0, 1], multiplied by 255 and rounded; one that is not finite becomes 0.
    """
    image = np.ascontiguousarray(lq.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
    degraded = torch.from_numpy(task.degrade(image, np.random.RandomState(NOISE_SEED)))[None].to(
        device
    )
    with torch.inference_mode():
        output = (
            model(degraded) if tiling is None else _in_tiles(model, degraded, task.scale, tiling)
        )
    output = output[0].float()
    non_finite = 1.0 - torch.isfinite(output).float().mean().item()
    output = output.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1).mul(255).round()
    return output.to(torch.uint8).permute(1, 2, 0).cpu().numpy(), non_finite


def evaluate(
    model: nn.Module,
    task: Task,
    images: Sequence[NamedImage],
    device: torch.device,
    *,
    index_slice: slice = slice(None),
    tiling: Tiling | None = None,
    keep: Callable[[str, Pixels], None] | None = None,
) -> list[Score]:
    """Scores of `images[index_slice]`, with `model` in evaluation mode.

    `keep` is called with the name and the pixels of every restored image.
    """
    scores = []
    for image in images[index_slice]:
        pair = task.prepare(image.pixels, image.lq)
        restored, non_finite = restore(model, task, pair.lq, device, tiling)
        if keep is not None:
            keep(image.name, restored)
        one, other = (compared(side, task.on_luma, task.border_px) for side in (restored, pair.gt))
        measured = {metric.name: metric.load()(one, other) for metric in METRICS}
        scores.append({"name": image.name, **measured, "non_finite": non_finite})
    return scores


def score_inputs(
    task: Task,
    images: Sequence[NamedImage],
    *,
    index_slice: slice = slice(None),
    keep: Callable[[str, Pixels], None] | None = None,
) -> list[Score]:
    """Scores of the degraded input of `images[index_slice]`, measured as `evaluate` measures."""
    plain, cpu = PlainInput(task.scale), torch.device("cpu")
    return evaluate(plain, task, images, cpu, index_slice=index_slice, keep=keep)


def means(scores: Sequence[Score]) -> dict[str, float]:
    """The mean over images of every metric."""
    measured = (*METRICS.names, "non_finite")
    # fsum is exact, so the mean does not depend on how images are dealt out over ranks.
    return {
        metric: math.fsum(score[metric] for score in scores) / len(scores) for metric in measured
    }


def _in_tiles(model: nn.Module, lq: Tensor, scale: int, tiling: Tiling) -> Tensor:
    """The output of `model`, tile by tile: each is restored with its surroundings, then cut out."""
    h, w = lq.shape[2:]
    output = lq.new_empty(1, 3, h * scale, w * scale)
    size, around = tiling.size_px, tiling.overlap_px
    for top in range(0, h, size):
        for left in range(0, w, size):
            bottom, right = min(top + size, h), min(left + size, w)
            above, before = max(top - around, 0), max(left - around, 0)
            restored = model(lq[:, :, above : bottom + around, before : right + around])
            rows = slice((top - above) * scale, (bottom - above) * scale)
            columns = slice((left - before) * scale, (right - before) * scale)
            output[:, :, top * scale : bottom * scale, left * scale : right * scale] = restored[
                :, :, rows, columns
            ]
    return output
