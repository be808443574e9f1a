"""Images taken in too little light."""

from __future__ import annotations

import numpy as np

from trainers.data.images import Pixels
from trainers.tasks.base import Float32, Pair, Random, Task


class Dimming(Task):
    """LQ = GT * light. Scored on RGB, whole images."""

    def __init__(self, light: float = 0.5) -> None:
        self.light = light
        self.choices = {"light": light}

    def prepare(self, gt: Pixels, lq: Pixels | None) -> Pair:
        return Pair(gt, gt)

    def degrade(self, lq: Float32, random: Random) -> Float32:
        return lq * np.float32(self.light)
