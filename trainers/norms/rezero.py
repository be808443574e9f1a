"""ReZero: no normalisation, and every branch starts with a factor of zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainers.norms.base import Norm, Normed

if TYPE_CHECKING:
    from jaxtyping import Float


class ReZero(Norm):
    """A block is x + weight * f(x), with one number per branch that starts at 0.

    Bachlechner et al., arXiv:2003.04887.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        return Normed(x, self.weight.view(1, 1, 1))
