"""Deraining: pairs of rainy and clean images, or synthetic streaks for development."""

from __future__ import annotations

import numpy as np
from skimage.draw import line_aa

from trainers.data.images import Pixels
from trainers.tasks.base import Float32, Pair, Random, Task

TILT_DEGREES = 25.0  # the most that streaks may lean away from the vertical


class Deraining(Task):
    """LQ is the rainy image of a pair (Rain13K, Rain100L: `input/` and `target/`).

    Scored on Y, without a border.
    """

    on_luma = True
    prepared = "input"
    lq_from_set = True

    def prepare(self, gt: Pixels, lq: Pixels | None) -> Pair:
        assert lq is not None  # planning refuses sets without pairs
        return Pair(lq, gt)

    def degrade(self, lq: Float32, random: Random) -> Float32:
        return lq


class SyntheticRain(Task):
    """Bright straight streaks drawn over the image.

    They are for development where no rain data set can be had, and not a substitute for one.
    LQ = min(GT + strength * streaks, 1), clipped and not rounded. An image's streaks share one tilt
    within 25 degrees of the vertical; their length is drawn from length_px / 2 to length_px, their
    brightness from 0.5 to 1.
    """

    on_luma = True

    def __init__(
        self, streaks_per_megapixel: int = 2000, length_px: int = 20, strength: float = 0.5
    ) -> None:
        self.density = streaks_per_megapixel / 1e6
        self.length_px = length_px
        self.strength = strength
        self.choices = {"rain": "synthetic, seed 0"}

    def prepare(self, gt: Pixels, lq: Pixels | None) -> Pair:
        return Pair(gt, gt)

    def degrade(self, lq: Float32, random: Random) -> Float32:
        h, w = lq.shape[1:]
        count = max(1, round(self.density * (h + self.length_px) * (w + self.length_px)))
        tilt = np.deg2rad(random.uniform(-TILT_DEGREES, TILT_DEGREES))
        # Streaks may begin outside the image, or there would be fewer of them at its edges.
        tops = random.uniform(-self.length_px, h, count)
        lefts = random.uniform(-self.length_px / 2, w + self.length_px / 2, count)
        lengths = random.uniform(self.length_px / 2, self.length_px, count)
        brightnesses = random.uniform(0.5, 1.0, count)
        streaks = np.zeros((h, w), np.float32)
        for top, left, length, brightness in zip(tops, lefts, lengths, brightnesses, strict=True):
            bottom, right = top + length * np.cos(tilt), left + length * np.sin(tilt)
            rows, columns, cover = line_aa(round(top), round(left), round(bottom), round(right))
            inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
            rows, columns = rows[inside], columns[inside]
            streaks[rows, columns] = np.maximum(streaks[rows, columns], cover[inside] * brightness)
        return np.minimum(lq + self.strength * streaks, 1.0).astype(np.float32)
