"""Denoising: additive white Gaussian noise, neither clipped nor rounded."""

from __future__ import annotations

import numpy as np

from trainers.data.images import Pixels
from trainers.tasks.base import Float32, Pair, Random, Task


class Denoising(Task):
    """LQ = GT + sigma/255 * N(0, 1) on [0, 1].

    Scored on RGB, whole images (protocol sections 4 and 5). The noise of a benchmark image is
    numpy's seed 0, drawn in the image's own (H, W, C) order.
    """

    def __init__(self, sigma_255: float = 25.0) -> None:
        self.sigma = sigma_255 / 255
        self.choices = {"noise": "numpy seed 0, float, not clipped", "noise_order": "H, W, RGB"}

    def prepare(self, gt: Pixels, lq: Pixels | None) -> Pair:
        return Pair(gt, gt)

    def degrade(self, lq: Float32, random: Random) -> Float32:
        noise = random.standard_normal((lq.shape[1], lq.shape[2], lq.shape[0])).transpose(2, 0, 1)
        return (lq + self.sigma * noise).astype(np.float32)
