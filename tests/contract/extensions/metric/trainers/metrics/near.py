"""How near two images are, linearly."""

from __future__ import annotations

import numpy as np

from trainers.metrics.image_quality import PEAK, Float64


def near(one: Float64, other: Float64) -> float:
    """1 - mean(|one - other|) / 255."""
    return 1 - float(np.mean(np.abs(one - other))) / PEAK
