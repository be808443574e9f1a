"""Bicubic resizing as MATLAB's imresize does it, which made every public low-resolution set.

torch's antialiased bicubic equals it to 1e-15 if the image is first padded symmetrically by
4 * scale, and cropped again afterwards (protocol section 5).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

PAD = 4  # taps of the kernel on the small side


def resize_axis(
    image: NDArray[np.float64], axis: int, factor: int, up: bool
) -> NDArray[np.float64]:
    """One pass along `axis` of (H, W, C), by 1/factor or by factor."""
    pad = PAD * (1 if up else factor)
    widths = [(0, 0)] * image.ndim
    widths[axis] = (pad, pad)
    padded = np.pad(image, widths, mode="symmetric")
    h, w = padded.shape[:2]
    length = padded.shape[axis] * factor if up else padded.shape[axis] // factor
    size = (length, w) if axis == 0 else (h, length)
    tensor = torch.from_numpy(padded).permute(2, 0, 1)[None]
    resized = (
        F.interpolate(tensor, size, mode="bicubic", antialias=True, align_corners=False)[0]
        .permute(1, 2, 0)
        .numpy()
    )
    crop = PAD * (factor if up else 1)
    kept = [slice(None)] * image.ndim
    kept[axis] = slice(crop, length - crop)
    return resized[tuple(kept)]


def downsample_u8(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """(H, W, C) uint8 to (H/scale, W/scale, C), as in the public LR sets.

    Height comes first, and each pass is rounded to uint8. H and W must be multiples of `scale`.
    """
    half = _round_u8(resize_axis(image.astype(np.float64), 0, scale, up=False))
    return _round_u8(resize_axis(half.astype(np.float64), 1, scale, up=False))


def downsample_f64(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """As `downsample_u8`, but both passes in float64 and rounded to uint8 once, at the end."""
    half = resize_axis(image.astype(np.float64), 0, scale, up=False)
    return _round_u8(resize_axis(half, 1, scale, up=False))


def upsample(image: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """(H, W, C) to (scale*H, scale*W, C), not rounded."""
    return resize_axis(resize_axis(image, 0, scale, up=True), 1, scale, up=True)


def _round_u8(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    # Halves go up, as in MATLAB; np.round would send them to the even neighbour.
    return np.floor(np.clip(image, 0, 255) + 0.5).astype(np.uint8)
