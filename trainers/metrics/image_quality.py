"""PSNR and SSIM in the field's conventions (protocol section 5), on uint8 images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Pixels = NDArray[np.uint8]
Float64 = NDArray[np.float64]

PEAK = 255.0
LUMA = (65.481, 128.553, 24.966)
LUMA_OFFSET = 16.0


def luma(rgb: Pixels) -> Float64:
    """Y of BT.601 as MATLAB has it, (H, W, 3) uint8 to (H, W, 1), not rounded."""
    y: Float64 = rgb.astype(np.float64) / PEAK @ np.array(LUMA) + LUMA_OFFSET
    return y[:, :, None]


def compared(image: Pixels, on_luma: bool, border_px: int) -> Float64:
    """The channels and the area that a task compares."""
    h, w = image.shape[:2]
    inner = image[border_px : h - border_px, border_px : w - border_px]
    return luma(inner) if on_luma else inner.astype(np.float64)


def psnr(one: Float64, other: Float64) -> float:
    """10 log10(255^2 / mean squared error); infinite for equal images."""
    error = float(np.mean((one - other) ** 2))
    return math.inf if error == 0 else 10 * math.log10(PEAK**2 / error)


def ssim(one: Float64, other: Float64) -> float:
    """Wang et al. 2004: 11 x 11 Gaussian of sigma 1.5, valid area, biased covariance.

    The mean over channels.
    """
    return float(
        structural_similarity(
            one,
            other,
            data_range=PEAK,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
