"""Benchmarks on whole images: degrade, restore, round to uint8, score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import nn

from trainers.data.images import NamedImage, Pixels
from trainers.metrics.image_quality import compared, psnr, ssim
from trainers.tasks.base import Task

NOISE_SEED = 0  # of every benchmark image, drawn by numpy's legacy generator as the published codes do


class Score(TypedDict):
    """How near a restored image is to its ground truth."""

    name: str
    psnr: float
    ssim: float


def restore(model: nn.Module, task: Task, lq: Pixels, device: torch.device) -> Pixels:
    """The network's output for a whole image, (H, W, 3) uint8: clamped to [0, 1], times 255, rounded."""
    image = np.ascontiguousarray(lq.transpose(2, 0, 1)).astype(np.float32) / 255
    degraded = torch.from_numpy(task.degrade(image, np.random.RandomState(NOISE_SEED)))
    with torch.inference_mode():
        output = model(degraded[None].to(device))[0].float()
    output = output.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1).mul(255).round()
    return output.to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def evaluate(
    model: nn.Module, task: Task, images: Sequence[NamedImage], device: torch.device, *, index_slice: slice
) -> list[Score]:
    """Scores of `images[index_slice]`, with `model` in evaluation mode; what is not finite counts as 0."""
    scores = []
    for image in images[index_slice]:
        pair = task.prepare(image.pixels, image.lq)
        restored = restore(model, task, pair.lq, device)
        one, other = (compared(side, task.on_luma, task.border_px) for side in (restored, pair.gt))
        scores.append(Score(name=image.name, psnr=psnr(one, other), ssim=ssim(one, other)))
    return scores
