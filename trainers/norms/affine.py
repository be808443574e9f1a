"""The published i-LN's affine after the embedding and before the head; nothing is normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from trainers.norms.base import Norm, Normed, affine_of

if TYPE_CHECKING:
    from jaxtyping import Float


class Affine(Norm):
    """x * weight + bias per channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = affine_of(dim)

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        return Normed(x * self.weight + self.bias)
