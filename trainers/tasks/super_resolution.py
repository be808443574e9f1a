"""Classical super-resolution: LQ is the MATLAB-bicubic reduction, made here or given by the set."""

from __future__ import annotations

import numpy as np

from trainers.data.images import Pixels
from trainers.data.resize import downsample_f64, downsample_u8
from trainers.tasks.base import Float32, Pair, Random, Task


class SuperResolution(Task):
    """GT is cropped to a multiple of `scale` first. Scored on Y, without a border of `scale` pixels (protocol section 5).

    `lr_mode`: `u8` rounds to uint8 after either pass of the reduction, as the public sets have it; `f64` at the end only;
    `given` takes the LR images that lie beside a set's own (trainers.data.given).
    """

    on_luma = True

    def __init__(self, scale: int = 2, lr_mode: str = "u8") -> None:
        self.scale = scale
        self.border_px = scale
        self.prepared = f"sr-x{scale}-{lr_mode}"
        self.choices = {"lr_mode": lr_mode}
        self.lq_from_set = lr_mode == "given"
        self._downsample = {"u8": downsample_u8, "f64": downsample_f64}.get(lr_mode)

    def prepare(self, gt: Pixels, lq: Pixels | None) -> Pair:
        h, w = (side - side % self.scale for side in gt.shape[:2])
        gt = np.ascontiguousarray(gt[:h, :w])
        if self._downsample is not None:
            return Pair(self._downsample(gt, self.scale), gt)
        assert (
            lq is not None
        )  # planning refuses sets without given LR images, or with some of another size
        return Pair(lq, gt)

    def degrade(self, lq: Float32, random: Random) -> Float32:
        return lq
