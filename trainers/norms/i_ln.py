"""i-LN: statistics over the whole image, and the branch gets its scale back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainers.norms.base import Norm, Normed

if TYPE_CHECKING:
    from jaxtyping import Float


def image_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The plain formula: normalised tokens (B, N, C) and sqrt(var + eps) (B, 1, 1)."""
    variance, mean = torch.var_mean(x, dim=(1, 2), correction=0, keepdim=True)
    scale = (variance + eps).sqrt()
    return (x - mean) / scale * weight + bias, scale


class FusedImageNorm(torch.autograd.Function):
    """The same through torch's layer-norm kernels over (N, C), saving one tensor instead of four.

    Those kernels return mean and 1/scale without a gradient, so the gradient that reaches the scale is added by hand:
    d scale / d x = (x - mean) / (n * scale), n = N * C.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        shape = x.shape[1:]
        tokens, mean, inverse = torch.native_layer_norm(x, shape, weight.expand(shape), bias.expand(shape), eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.set_materialize_grads(False)
        return tokens, inverse.reciprocal()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_tokens: Tensor | None, grad_scale: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        shape = x.shape[1:]
        grad_tokens = torch.zeros_like(x) if grad_tokens is None else grad_tokens
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
            grad_tokens.contiguous(), x, shape, mean, inverse, weight.expand(shape), bias.expand(shape), [True] * 3
        )
        if grad_scale is not None:
            gain = grad_scale * inverse / shape.numel()
            grad_x.addcmul_(x, gain).sub_(mean * gain)  # in place: x - mean would be another tensor of that size
        return grad_x, grad_weight.sum(0), grad_bias.sum(0), None


class ImageLayerNorm(Norm):
    """Mean and variance taken jointly over N and C of one image, biased variance:

        norm(x)    = (x - mean) / sqrt(var + eps) * weight + bias
        restore(y) = y * sqrt(var + eps)

    Lee et al., arXiv:2504.06629, eqs. 3-6. The scale keeps its gradient. `rescale=False` leaves the second line out
    (their Table 6, row 3). Published code keeps eps in a module global and the variance on the module.
    """

    def __init__(self, dim: int, eps: float = 1e-4, rescale: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.rescale = rescale
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        x = x.to(torch.promote_types(x.dtype, self.weight.dtype))  # statistics over an image need more than 16 bits
        formula = image_norm if torch.compiler.is_compiling() else FusedImageNorm.apply
        tokens, scale = formula(x, self.weight, self.bias, self.eps)
        return Normed(tokens, scale if self.rescale else None)
