"""Tokens without their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from trainers.norms.base import Norm, Normed

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Centred(Norm):
    """(x - mean_C(x)) * weight + bias, per token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        return Normed((x - x.mean(dim=-1, keepdim=True)) * self.weight + self.bias)
