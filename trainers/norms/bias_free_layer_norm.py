"""BiasFree LayerNorm: each token divided by the standard deviation of its channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainers.norms.base import Norm, Normed, widened

if TYPE_CHECKING:
    from jaxtyping import Float


class BiasFreeLayerNorm(Norm):
    """x / sqrt(var_C + eps) * weight, per token; biased variance about the mean, no bias.

    Restormer's `BiasFree` (Zamir et al., arXiv:2111.09881), which it uses for Gaussian denoising.
    The mean stays in the token, unlike LayerNorm's, but not in the variance, unlike RMSNorm's. So a
    token whose channels are nearly alike grows by a factor of up to 1 / sqrt(eps).
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        x = widened(x, self.weight)
        variance = x.var(dim=2, correction=0, keepdim=True)
        return Normed(x / (variance + self.eps).sqrt() * self.weight)
