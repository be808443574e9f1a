"""Drop path (Huang et al., arXiv:1603.09382) with draws as data, handed to the network.

The network is given which branch is dropped for which image. So a step is the same however its
batch is sliced over ranks and micro-batches, in a backward pass that runs a block again, and after
a resumption.

Axis letters: K block with drop path, in the network's order; B image. A block has two branches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

BRANCHES = 2  # of a block: attention and MLP
STREAM = 1  # in Philox's counter, apart from 0, the stream of the patches (trainers.tasks.patches)


class DropPath(nn.Module):
    """A branch times a factor per image: 0 with probability `rate`, otherwise 1 / (1 - rate).

    Without factors, the branch is returned as it is.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, branch: Float[Tensor, "B N C"], factors: Float[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        if factors is None or self.rate == 0.0:
            return branch
        return branch * factors.to(branch.dtype).view(-1, 1, 1)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"


def rates_of(network: nn.Module) -> Float[Tensor, " K"]:
    """The drop-path rates of the network's blocks, in the order of its forward pass."""
    return torch.tensor([part.rate for part in network.modules() if isinstance(part, DropPath)])


def factors_of_step(
    rates: Float[Tensor, " K"], seed: int, step: int, images: slice
) -> Float[Tensor, "K 2 B"] | None:
    """The factors for `images` of the step's global batch, or None if no branch can be dropped.

    Each is a function of (seed, step, block and branch, image).
    """
    if not rates.any():
        return None
    drawn = [
        np.random.Generator(np.random.Philox(key=seed, counter=[0, STREAM, index, step])).random(
            (len(rates), BRANCHES), dtype=np.float32
        )
        for index in range(images.start, images.stop)
    ]
    return factors_of(torch.from_numpy(np.stack(drawn, axis=-1)), rates)


def factors_of(
    uniform: Float[Tensor, "K 2 B"], rates: Float[Tensor, " K"]
) -> Float[Tensor, "K 2 B"]:
    """Turn numbers drawn uniformly from [0, 1) into factors."""
    rates = rates.to(uniform).view(-1, 1, 1)
    return (uniform >= rates).to(uniform.dtype) / (1 - rates)
