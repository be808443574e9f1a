"""The promises of a task: how a clean image becomes LQ, and how results are scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.data.images import Pixels

Float32 = NDArray[np.float32]
Random = np.random.Generator | np.random.RandomState


class Pair(NamedTuple):
    """The two sides of an image, uint8 (H, W, 3).

    LQ is degraded only as far as that can be done once and for all.
    """

    lq: Pixels
    gt: Pixels


class Task(ABC):
    """A degradation, for training and for benchmarks.

    - `scale`: the side of GT over that of LQ.
    - `prepared`: a name for the LQ that `prepare` returns, or None where that is GT itself. Images
      kept under this name serve every task that has the same.
    - `lq_from_set`: LQ is not made but comes with the set.
    - `choices`: the decisions that change a score; they are shown with every result.
    - `margin_px`: a training patch is cut, after `degrade`, out of one that is larger by this much
      on the LQ side.
    - `on_luma`, `border_px`: how results are scored: on Y or RGB, and without which border.
    """

    scale: int = 1
    prepared: str | None = None
    lq_from_set: bool = False
    choices: Mapping[str, str | int | float] = MappingProxyType({})
    margin_px: int = 0
    on_luma: bool = False
    border_px: int = 0

    @abstractmethod
    def prepare(self, gt: Pixels, lq: Pixels | None) -> Pair:
        """Do the part of the degradation that is the same at every step, once for a whole image.

        `lq` is the LQ of a data set that has pairs; tasks that make their own LQ ignore it.
        """

    @abstractmethod
    def degrade(self, lq: Float32, random: Random) -> Float32:
        """Do the part that is drawn anew: LQ (3, h, w) in [0, 1] to the input of the network.

        A function of its arguments alone.
        """

    def how_scored(self) -> dict[str, str | int | float]:
        """All that is needed to compare a score: channels, border, and the task's own choices."""
        return {
            "compared": "Y" if self.on_luma else "RGB",
            "border_px": self.border_px,
            **self.choices,
        }
