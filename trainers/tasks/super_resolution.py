"""Classical super-resolution: LQ is the MATLAB-bicubic reduction, in uint8 as the public sets have it."""

from __future__ import annotations

import numpy as np

from trainers.data.images import Pixels
from trainers.data.resize import downsample_u8
from trainers.tasks.base import Float32, Pair, Random, Task


class SuperResolution(Task):
    """GT is cropped to a multiple of `scale` first. Scored on Y, without a border of `scale` pixels (protocol section 5)."""

    on_luma = True

    def __init__(self, scale: int = 2) -> None:
        self.scale = scale
        self.border_px = scale

    def prepare(self, gt: Pixels, lq: Pixels | None) -> Pair:
        h, w = (side - side % self.scale for side in gt.shape[:2])
        gt = np.ascontiguousarray(gt[:h, :w])
        return Pair(downsample_u8(gt, self.scale), gt)

    def degrade(self, lq: Float32, random: Random) -> Float32:
        return lq
