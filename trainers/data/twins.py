"""The same picture in a set in several sizes: finds reduced images that no name gives away.

Only images whose names suggest that they may be the same are compared, and only the first few of
them: equal names in several folders, and names that differ by a scale (`0001`, `0001x4`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainers.data.finder import ADVICE
from trainers.data.headers import image_size
from trainers.data.manifests import ImageFile

LOOKED_AT = 3  # names of a set, and as many images of each
# Side of the pictures that are compared: both are reduced to the smaller one's size, or to this.
LARGEST_PX = 128
# Correlation of two pictures: above 0.999 for Set5's LR images, at most 0.53 between sixty images
# of BSDS400.
ALIKE = 0.9
LEAST_STD = 1.0  # on 0 to 255: a flatter picture resembles any other


def same_in_another_size(alike: Sequence[Sequence[ImageFile]], folder: Path) -> list[str]:
    """The problem with a set if the first few groups of like-named images are each one picture."""
    looked_at = alike[:LOOKED_AT]
    same = [pair for found in looked_at if (pair := _same(found))]
    if len(same) < len(looked_at):
        return []
    both = " and ".join(f"{file.path} ({px[0]} x {px[1]})" for file, px in same[0])
    return [f"{folder}: holds the same picture in more than one size: {both}. {ADVICE}"]


def _same(files: Sequence[ImageFile]) -> list[tuple[ImageFile, tuple[int, int]]] | None:
    """The first two of these images that are one picture in two sizes of the same shape, if any."""
    try:
        sized = [(file, file.px or image_size(file.path)) for file in files]
    except (OSError, ValueError):
        return None  # reported when it is decoded
    largest, largest_px = max(sized, key=lambda both: both[1])
    for file, px in [both for both in sized if both[1] != largest_px][:LOOKED_AT]:
        scale = largest_px[0] / px[0]
        # The same shape, but for rounding, and much the same pixels.
        if (
            abs(largest_px[1] / scale - px[1]) <= 1
            and _correlation(largest.path, file.path, px) > ALIKE
        ):
            return [(largest, largest_px), (file, px)]
    return None


def _correlation(one: Path, other: Path, px: tuple[int, int]) -> float:
    """The correlation of the pixels of two images, both resized to `px`."""
    shrink = max(1.0, max(px) / LARGEST_PX)
    size = (max(1, round(px[0] / shrink)), max(1, round(px[1] / shrink)))
    try:
        a, b = (_gray(path, size) for path in (one, other))
    except Exception:  # damaged bytes may raise anything; reported when they are decoded
        return 0.0
    if min(a.std(), b.std()) < LEAST_STD:
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _gray(path: Path, size: tuple[int, int]) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(
            image.convert("L").resize(size, Image.Resampling.BICUBIC), dtype=np.float64
        )
