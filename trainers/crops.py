"""Crops of restored images that a trial keeps when it ends, for a reader to look at.

The middle of the first images of the first evaluation set: restored, the input as it is scored
(trainers.evaluate.PlainInput), and the ground truth; (side, side, 3) uint8, 170 kB in all. They are
an array file like those of probes, under the name CROPS, and only observe.

A crop's name is `restored/40,168/Set5/baby.png`: what it is, the row and column of its corner in
the ground truth, the set and the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from trainers.data.images import NamedImage, Pixels
from trainers.evaluate import PlainInput, restore
from trainers.tasks.base import Task

CROPS = "crops"
NUM_IMAGES = 2
SIDE_PX = 96
RESTORED, INPUT, TRUTH = "restored", "input", "truth"


class Keeper:
    """Cuts the crops of a set's first images out of what `evaluate` restores, on one rank."""

    def __init__(self, images: Sequence[NamedImage]) -> None:
        self._first = {image.name for image in images[:NUM_IMAGES]}
        self.kept: dict[str, Pixels] = {}

    def keep(self, name: str, restored: Pixels) -> None:
        if name in self._first:
            self.kept[name] = _cut(restored)


def crops(
    task: Task, name: str, images: Sequence[NamedImage], restored: Mapping[str, Pixels]
) -> dict[str, Pixels]:
    """The crops by name of the set `name`, given those that its restored images have left."""
    found: dict[str, Pixels] = {}
    plain, cpu = PlainInput(task.scale), torch.device("cpu")
    for image in images[:NUM_IMAGES]:
        if image.name not in restored:
            continue
        pair = task.prepare(image.pixels, image.lq)
        top, left = _corner(pair.gt)
        sides = {
            RESTORED: restored[image.name],
            INPUT: _cut(restore(plain, task, pair.lq, cpu)[0]),
            TRUTH: _cut(pair.gt),
        }
        for side, pixels in sides.items():
            found[f"{side}/{top},{left}/{name}/{image.name}"] = np.ascontiguousarray(pixels)
    return found


def _corner(pixels: Pixels) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    return max(0, (height - SIDE_PX) // 2), max(0, (width - SIDE_PX) // 2)


def _cut(pixels: Pixels) -> Pixels:
    top, left = _corner(pixels)
    return pixels[top : top + SIDE_PX, left : left + SIDE_PX].copy()
