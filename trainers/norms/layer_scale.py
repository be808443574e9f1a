"""LayerScale: LayerNorm, and a branch whose channels have factors that start near zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.norms.base import Norm, Normed, affine_of

if TYPE_CHECKING:
    from jaxtyping import Float


class LayerScale(Norm):
    """A block is x + gamma * f(LN(x)), where gamma in R^C starts at `init`.

    Touvron et al., arXiv:2103.17239, eq. 4. `init` is 1e-5 in their deep models; Lee et al. only
    say "near zero".
    """

    def __init__(self, dim: int, eps: float = 1e-5, init: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = affine_of(dim)
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        tokens = F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return Normed(tokens, self.gamma.view(1, 1, -1))
