"""Data sets with LR images for super-resolution beside their HR images, like the public sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from trainers.data.resize import downsample_u8


def write_pairs(
    folder: Path,
    *,
    count: int = 3,
    scales: tuple[int, ...] = (2,),
    sides: tuple[int, int] = (49, 62),
    hr: str = "HR",
    lr: str = "LR_bicubic",
    seed: int = 0,
) -> Path:
    """`count` HR images, each a little larger than the last, and the LR images of `lr_mode: u8`."""
    random = np.random.default_rng(seed)
    for i in range(count):
        pixels = random.integers(0, 256, (sides[0] + i, sides[1] + 2 * i, 3), dtype=np.uint8)
        name = f"{hr[0]}{i}" if hr not in ("HR", ".") else str(i)
        save(folder / hr / f"{name}.png", pixels)
        for scale in scales:
            h, w = (side - side % scale for side in pixels.shape[:2])
            save(
                folder / lr / f"X{scale}" / f"{name}x{scale}.png",
                downsample_u8(pixels[:h, :w], scale),
            )
    return folder


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
