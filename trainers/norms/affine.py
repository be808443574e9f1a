"""The published i-LN's affine after the embedding and before the head; nothing is normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainers.norms.base import Norm, Normed

if TYPE_CHECKING:
    from jaxtyping import Float


class Affine(Norm):
    """x * weight + bias per channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        return Normed(x * self.weight + self.bias)
