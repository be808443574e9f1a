"""InstanceNorm: statistics per channel over the tokens of one image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainers.norms.base import Norm, Normed, affine_of, widened
from trainers.rounding import as_operation

if TYPE_CHECKING:
    from jaxtyping import Float


def instance_norm(
    x: Float[Tensor, "B N C"], weight: Tensor, bias: Tensor, eps: float
) -> Float[Tensor, "B N C"]:
    """The result of `F.instance_norm`, which takes (B, C, N), without turning tokens around."""
    variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
    gain = weight * (variance + eps).rsqrt()
    return (x - mean) * gain + bias


class InstanceNorm(Norm):
    """(x - mean_N) / sqrt(var_N + eps) * weight + bias, per image and channel, biased variance.

    Ulyanov et al., arXiv:1607.08022. It has no running statistics, so evaluation does the same, and
    gives no scale back. An image's size and padding change its statistics: tiled and untiled
    results are not comparable.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = affine_of(dim)

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        x = widened(x, self.weight)
        return Normed(as_operation(instance_norm, x, self.weight, self.bias, self.eps))
