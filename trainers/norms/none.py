"""No normalisation at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from trainers.norms.base import Norm, Normed

if TYPE_CHECKING:
    from jaxtyping import Float


class NoNorm(Norm):
    """The tokens as they are: a block is x + f(x)."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        return Normed(x)
