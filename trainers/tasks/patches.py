"""Training patches, each a function of (seed, step, index in the global batch) and of nothing else.

So any slice of a batch is the same on any number of workers, and a resumed training sees what an
uninterrupted one would.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainers.tasks.base import Pair, Task

Place = tuple[int, slice]  # a step, and the images of its global batch


@dataclass(frozen=True)
class Epochs:
    """Sampling by epoch: every one of `num_images` images once before any of them again.

    The order is drawn from `seed` and the epoch. Batches follow one another without a gap, so that
    one may hold the last images of an epoch and the first of the next.
    """

    num_images: int
    batch_size: int
    seed: int

    def image(self, step: int, index: int) -> int:
        """The image at `index` of the global batch of `step`."""
        epoch, place = divmod(step * self.batch_size + index, self.num_images)
        return int(_order(self.num_images, self.seed, epoch)[place])


# Places come in order, and a batch that crosses into the next epoch needs two orders.
@functools.lru_cache(maxsize=2)
def _order(num_images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    # The second word of the key keeps this apart from the streams of patches, whose key is the seed
    # alone.
    return np.random.Generator(
        np.random.Philox(key=[seed, 1], counter=[0, 0, 0, epoch])
    ).permutation(num_images)


@dataclass(frozen=True, eq=False)  # a data set equals itself alone
class TrainingPatches(Dataset[tuple[Tensor, Tensor]]):
    """Random crops, flips and quarter turns of `pairs`, degraded by `task`.

    `patch_size_px` is the side of a patch's LQ. A pair's GT may reach beyond its LQ to the right
    and below; what is there is never cut out. Without `epochs`, each patch draws its image anew.
    Without `rotations`, `flips` are from left to right only.
    """

    pairs: Sequence[Pair]
    task: Task
    patch_size_px: int
    seed: int
    _: KW_ONLY
    flips: bool = True
    rotations: bool = True
    epochs: Epochs | None = None

    def stream(
        self, places: Iterable[Place], workers: int, *, pinned: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches at `places` in order, made ahead by `workers` processes.

        Any number of them makes the same bits.
        """
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=places,
            num_workers=workers,
            pin_memory=pinned,
            worker_init_fn=_one_thread,
        )
        return iter(loader)

    def __getitem__(self, place: Place) -> tuple[Tensor, Tensor]:
        return self.batch(*place)

    def batch(self, step: int, part: slice) -> tuple[Tensor, Tensor]:
        """LQ (B, 3, p, p) and GT (B, 3, scale*p, scale*p), float32, of a part of a step's batch."""
        patches = [self._patch_of(step, index) for index in range(part.start, part.stop)]
        return torch.stack([lq for lq, _ in patches]), torch.stack([gt for _, gt in patches])

    def _patch_of(self, step: int, index: int) -> tuple[Tensor, Tensor]:
        """LQ and GT of one patch.

        The order of the draws is part of every trial's identity. Draws that a recipe has no use
        for, such as flips, are made all the same and dropped, so that its crops, say, are those of
        a recipe that uses them.
        """
        random = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, index, step]))
        drawn = int(random.integers(len(self.pairs)))
        pair = self.pairs[drawn if self.epochs is None else self.epochs.image(step, index)]
        patch, scale, margin = self.patch_size_px, self.task.scale, self.task.margin_px
        side = patch + margin
        top = random.integers(pair.lq.shape[0] - side + 1)
        left = random.integers(pair.lq.shape[1] - side + 1)
        quarter_turns, flip = int(random.integers(4)), int(random.integers(2))
        quarter_turns, flip = quarter_turns * self.rotations, flip * self.flips
        cuts = []
        for image, factor in ((pair.lq, 1), (pair.gt, scale)):
            cut = image[
                top * factor : (top + side) * factor, left * factor : (left + side) * factor
            ]
            cut = np.rot90(cut[:, ::-1] if flip else cut, quarter_turns)
            cuts.append(
                np.ascontiguousarray(cut.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
            )
        lq, gt = self.task.degrade(cuts[0], random), cuts[1]
        if margin:
            down, right = random.integers(margin + 1, size=2)
            lq = np.ascontiguousarray(lq[:, down : down + patch, right : right + patch])
            gt = gt[
                :,
                down * scale : (down + patch) * scale,
                right * scale : (right + patch) * scale,
            ]
            gt = np.ascontiguousarray(gt)
        return torch.from_numpy(lq), torch.from_numpy(gt)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
