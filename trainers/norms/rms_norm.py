"""RMSNorm: each token divided by the root mean square of its channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.norms.base import Norm, Normed

if TYPE_CHECKING:
    from jaxtyping import Float


class RMSNorm(Norm):
    """x / sqrt(mean_C(x^2) + eps) * weight, per token, without subtracting a mean or adding a bias.

    Zhang and Sennrich, arXiv:1910.07467.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        return Normed(F.rms_norm(x, self.weight.shape, self.weight, self.eps))
