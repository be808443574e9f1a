"""From features back to an image: the reconstruction heads, and the scale of input and output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

NUM_FEATURES = 64  # channels of the `pixelshuffle` head in all published configurations
DF2K_MEAN = (0.4488, 0.4371, 0.4040)
DF2K_STD = (0.2842, 0.2701, 0.2920)


def pixel_shuffle_steps(channels: int, scale: int) -> nn.Sequential:
    """x2 once or twice, or x3: a convolution and a pixel shuffle each."""
    factors = {2: [2], 3: [3], 4: [2, 2]}[scale]
    steps: list[nn.Module] = []
    for factor in factors:
        steps += [nn.Conv2d(channels, channels * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*steps)


class InputScale(nn.Module):
    """Subtracts the DF2K mean and, with `stdnorm`, divides by its std; `undo` is the inverse, for the output."""

    mean: Tensor
    std: Tensor

    def __init__(self, stdnorm: bool) -> None:
        super().__init__()
        std = DF2K_STD if stdnorm else (1.0, 1.0, 1.0)
        self.register_buffer("mean", torch.tensor(DF2K_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        return (image - self.mean) / self.std

    def undo(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        return image * self.std + self.mean
