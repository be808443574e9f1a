"""LayerNorm: statistics over the channels of each token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from trainers.norms.base import Norm, Normed, affine_of

if TYPE_CHECKING:
    from jaxtyping import Float


class LayerNorm(Norm):
    """(x - mean_C) / sqrt(var_C + eps) * weight + bias, per token, biased variance.

    Ba et al., arXiv:1607.06450; eqs. 1-2 of Lee et al., arXiv:2504.06629. The same operation as
    torch.nn.LayerNorm.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = affine_of(dim)

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        return Normed(F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps))
