"""Classical super-resolution: LQ is GT reduced as by MATLAB's bicubic, or comes with the set."""

from __future__ import annotations

import numpy as np

from trainers.data.images import Pixels
from trainers.data.resize import downsample_f64, downsample_u8
from trainers.tasks.base import Float32, Pair, Random, Task


class SuperResolution(Task):
    """GT, first cropped to a multiple of `scale`, is reduced by `scale`.

    Scored on Y, without a border of `scale` pixels (protocol section 5). `lr_mode`: `u8` rounds to
    uint8 after each of the two passes of the reduction, as the public sets have it; `f64` rounds
    only at the end; `given` takes the LR images that lie beside a set's own (trainers.data.given).
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
        # Planning refuses sets without given LR images, or with some of another size.
        assert lq is not None
        return Pair(lq, gt)

    def degrade(self, lq: Float32, random: Random) -> Float32:
        return lq
