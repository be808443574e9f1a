"""What a task promises: how a clean image becomes LQ, for training and for benchmarks, and how results are scored."""

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
    """An image's two sides, uint8 (H, W, 3): LQ, as far as it can be made once and for all, and GT."""

    lq: Pixels
    gt: Pixels


class Task(ABC):
    """A degradation. `scale` is the side of GT over that of LQ; `on_luma` and `border_px` say how results are scored.

    A training patch is cut out of one that is larger by `margin_px` on the LQ side, after `degrade`. `prepared` names what
    `prepare` makes of a set's GT, where that is another image: what is kept under that name serves every task with the same.
    `lq_from_set` says that LQ is not made but comes with the set. `choices` are the decisions that change a score: they stand
    beside every result.
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
        """The part of the degradation that is the same at every step, done once for a whole image.

        `lq` is what the data set has for LQ, where it has pairs; tasks that make their own LQ leave it.
        """

    @abstractmethod
    def degrade(self, lq: Float32, random: Random) -> Float32:
        """The part that is drawn anew: LQ (3, h, w) in [0, 1] to what the network sees. A function of its arguments."""

    def how_scored(self) -> dict[str, str | int | float]:
        """What a reader must know to compare a score: channels, border, and the task's own choices."""
        return {
            "compared": "Y" if self.on_luma else "RGB",
            "border_px": self.border_px,
            **self.choices,
        }
