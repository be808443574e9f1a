"""JPEG artefact removal: LQ is the image encoded by libjpeg, with halved chroma (4:2:0)."""

from __future__ import annotations

import io
from types import MappingProxyType

import numpy as np
from PIL import Image

from trainers.data.images import Pixels
from trainers.tasks.base import Float32, Pair, Random, Task

BLOCK = 8  # side of a JPEG block, in pixels


class JpegArtefacts(Task):
    """Encoding at a `quality`. Scored on RGB, whole images (protocol section 5).

    A training patch is cut from a larger encoded one, so that the phase of the 8 x 8 blocks varies
    as it does inside an image.
    """

    margin_px = BLOCK
    choices = MappingProxyType({"chroma": "4:2:0"})

    def __init__(self, quality: int = 40) -> None:
        self.quality = quality

    def prepare(self, gt: Pixels, lq: Pixels | None) -> Pair:
        return Pair(gt, gt)

    def degrade(self, lq: Float32, random: Random) -> Float32:
        pixels = (lq.transpose(1, 2, 0) * 255).round().astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality, subsampling="4:2:0")
        decoded = np.asarray(Image.open(file))
        return np.ascontiguousarray(decoded.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
