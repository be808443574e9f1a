"""i-LN: statistics over the whole image, and the branch gets its scale back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainers.norms.base import Norm, Normed
from trainers.rounding import is_emulated

if TYPE_CHECKING:
    from jaxtyping import Float


CHAIN = 128  # tokens whose gradients float32 adds one by one: the error of a sum grows with them
OFF_CENTRE = 1  # |mean| / scale beyond which sums of g * x, not of g * (x - mean), would cost weight's gradient digits
FUSED_ON = frozenset({"cpu"})  # device types; elsewhere the affine is folded


def image_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The plain formula: normalised tokens (B, N, C) and sqrt(var + eps) (B, 1, 1).

    Mean and variance in one pass that subtracts a running mean (Welford): neither cancels where the mean is large.
    """
    mean, scale = _mean_and_scale(x, eps)
    return (x - mean) / scale * weight + bias, scale


def _mean_and_scale(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(1, 2), correction=0, keepdim=True)
    return mean, (variance + eps).sqrt()


class FusedImageNorm(torch.autograd.Function):
    """The same through torch's kernels for a CPU, saving one tensor instead of four.

    Forward, a layer norm over (N, C). Its backward adds gradients of N*C weights; that of a group norm of one group adds C, but
    token by token. So it is taken with tokens laid side by side as more channels, where N divides into columns short enough.

    Those kernels return mean and 1/scale without a gradient, so the gradient that reaches the scale is added by hand:
    d scale / d x = (x - mean) / (n * scale), n = N * C.

    All of them multiply x before they subtract the mean. Where an image lies far from 0 that would cancel, and the batch
    is computed from centred values instead, at a few times the cost.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        _, n, c = x.shape
        tokens, mean, inverse = torch.native_layer_norm(
            x, (n, c), weight.expand(n, c), bias.expand(n, c), eps
        )
        ctx.set_materialize_grads(False)
        in_half = (
            torch.finfo(x.dtype).bits < 32
        )  # then the kernels are wider inside than a formula written out
        ctx.off_centre = not in_half and bool((mean * inverse).abs().amax() > OFF_CENTRE)
        if ctx.off_centre:
            mean, scale = _mean_and_scale(x, eps)
            ctx.save_for_backward(x, weight, mean, scale)
            return torch.addcmul(bias, x - mean, weight / scale), scale
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        return tokens, inverse.reciprocal()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_tokens: Tensor | None, grad_scale: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        if ctx.off_centre:
            x, weight, mean, scale = ctx.saved_tensors
            return *_centred_gradients(x, weight, mean, scale, grad_tokens, grad_scale), None
        x, weight, bias, mean, inverse = ctx.saved_tensors
        b, n, c = x.shape
        grad_tokens = torch.zeros_like(x) if grad_tokens is None else grad_tokens.contiguous()
        beside = _tokens_beside(n)
        if n <= CHAIN * beside:
            columns = _columns(x, beside)
            turned, *grads = torch.ops.aten.native_group_norm_backward(
                _columns(grad_tokens, beside), columns, mean.view(b, 1), inverse.view(b, 1), weight.repeat(beside),
                b, columns.shape[1], columns.shape[2], 1, [True] * 3,
            )  # fmt: skip
            grad_x = turned.permute(0, 2, 3, 1).reshape(x.shape)
        else:
            grad_x, *grads = torch.ops.aten.native_layer_norm_backward(
                grad_tokens,
                x,
                (n, c),
                mean,
                inverse,
                weight.expand(n, c),
                bias.expand(n, c),
                [True] * 3,
            )
        grad_weight, grad_bias = (grad.view(-1, c).sum(0) for grad in grads)
        if grad_scale is not None:
            gain = grad_scale * inverse / (n * c)
            grad_x.addcmul_(x, gain).sub_(
                mean * gain
            )  # in place: x - mean would be another tensor of that size
        return grad_x, grad_weight, grad_bias, None


def _tokens_beside(n: int) -> int:
    """The power of two into which n tokens divide, so that no more than CHAIN stand in a column, where there is one."""
    beside = 1
    while n > CHAIN * beside and n % (2 * beside) == 0:
        beside *= 2
    return beside


def _columns(
    tokens: Float[Tensor, "B N C"], beside: int
) -> Float[Tensor, "B {beside}*C N//{beside} 1"]:
    """A view, in memory what torch calls channels last."""
    b, n, c = tokens.shape
    return tokens.view(b, n // beside, 1, beside * c).permute(0, 3, 1, 2)


class FoldedImageNorm(torch.autograd.Function):
    """The same for a GPU, where a layer-norm kernel would give each image one block: reductions over many, a folded affine."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        mean, scale = _mean_and_scale(x, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.set_materialize_grads(False)
        gain = weight / scale
        return torch.addcmul(bias - mean * gain, x, gain), scale

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_tokens: Tensor | None, grad_scale: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors
        return *_centred_gradients(x, weight, mean, scale, grad_tokens, grad_scale), None


def _centred_gradients(
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    scale: Tensor,
    grad_tokens: Tensor | None,
    grad_scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of x, weight and bias. With c = x - mean, per image, means over N and C:

    d x = (g w - mean(g w) - c (mean(g w c) / scale^2 - d scale / n)) / scale.
    """
    n = x.shape[1] * x.shape[2]
    grad_tokens = torch.zeros_like(x) if grad_tokens is None else grad_tokens
    centred = x - mean
    of_bias, of_gain = (
        grad_tokens.sum(1),
        (grad_tokens * centred).sum(1),
    )  # (B, C): all that is needed of both
    inner = ((of_gain * weight).sum(1) / n).view_as(
        scale
    ) / scale**2  # a product of matrices autocast would halve
    if grad_scale is not None:
        inner = inner - grad_scale / n
    shift = ((of_bias * weight).sum(1) / n).view_as(scale)
    grad_x = torch.addcmul(-shift / scale, grad_tokens, weight / scale).addcmul_(
        centred, -inner / scale
    )
    return grad_x, (of_gain / scale[:, 0]).sum(0), of_bias.sum(0)


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
        x = x.to(
            torch.promote_types(x.dtype, self.weight.dtype)
        )  # autocast leaves weights, so statistics, in float32
        fast = FusedImageNorm if x.device.type in FUSED_ON else FoldedImageNorm
        formula = image_norm if torch.compiler.is_compiling() or is_emulated() else fast.apply
        tokens, scale = formula(x, self.weight, self.bias, self.eps)
        return Normed(tokens, scale if self.rescale else None)
