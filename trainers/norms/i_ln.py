"""i-LN: statistics over the whole image, and the branch gets its scale back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainers.norms.base import Norm, Normed, affine_of, widened
from trainers.rounding import is_emulated

if TYPE_CHECKING:
    from jaxtyping import Float


# Tokens whose gradients float32 may add one by one: the error of a sum grows with their number.
CHAIN = 128
# |mean| / scale beyond which summing g * x, instead of g * (x - mean), would cost the weight's
# gradient digits (docs/results/cpu.md).
OFF_CENTRE = 1
FUSED_ON = frozenset({"cpu"})  # device types; FoldedImageNorm serves the others


def image_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The plain formula: normalised tokens (B, N, C) and sqrt(var + eps) (B, 1, 1).

    Mean and variance come from one pass that subtracts a running mean (Welford), so that neither
    cancels where the mean is large.
    """
    mean, scale = _mean_and_scale(x, eps)
    return (x - mean) / scale * weight + bias, scale


def _mean_and_scale(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(1, 2), correction=0, keepdim=True)
    return mean, (variance + eps).sqrt()


class FusedImageNorm(torch.autograd.Function):
    """The same through torch's kernels for a CPU, saving one tensor instead of four.

    The forward is a layer norm over (N, C). Its backward accumulates gradients of N*C weights; that
    of a group norm of one group accumulates C, but token by token. So tokens are laid side by side
    as more channels, and the group norm's is used where N divides into short enough columns.

    Those kernels return mean and 1/scale without a gradient, so the gradient that reaches the scale
    is added by hand: d scale / d x = (x - mean) / (n * scale), n = N * C.

    All of them multiply x before they subtract the mean, which would cancel digits where an image
    is far from 0. A batch with such an image is computed from centred values instead, at a few
    times the cost.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        _, n, c = x.shape
        # Not the group norm's forward, though faster on a single image: it loses digits where one
        # channel dominates (docs/results/cpu.md).
        tokens, mean, inverse = torch.native_layer_norm(
            x, (n, c), weight.expand(n, c), bias.expand(n, c), eps
        )
        ctx.set_materialize_grads(False)
        # In half precision the kernels are kept: they are wider inside than a written-out formula.
        in_half = torch.finfo(x.dtype).bits < 32
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
                _columns(grad_tokens, beside),
                columns,
                mean.view(b, 1),
                inverse.view(b, 1),
                weight.repeat(beside),
                b,
                columns.shape[1],
                columns.shape[2],
                1,
                [True] * 3,
            )
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
            # In two steps and in place, because x - mean would be another tensor of that size.
            grad_x.addcmul_(x, gain).sub_(mean * gain)
        return grad_x, grad_weight, grad_bias, None


def _tokens_beside(n: int) -> int:
    """The number of tokens to lay side by side: a power of two that divides n.

    It leaves at most CHAIN tokens in a column, if any such power does.
    """
    beside = 1
    while n > CHAIN * beside and n % (2 * beside) == 0:
        beside *= 2
    return beside


def _columns(
    tokens: Float[Tensor, "B N C"], beside: int
) -> Float[Tensor, "B {beside}*C N//{beside} 1"]:
    """A view of the tokens in columns, whose memory torch takes for channels last."""
    b, n, c = tokens.shape
    return tokens.view(b, n // beside, 1, beside * c).permute(0, 3, 1, 2)


class FoldedImageNorm(torch.autograd.Function):
    """The same for a GPU: reductions over many blocks, with norm and affine folded into one.

    A layer-norm kernel would give each image a single block.
    """

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
    """The gradients of x, weight and bias. Per image, with c = x - mean and means over N and C:

    d x = (g w - mean(g w) - c (mean(g w c) / scale^2 - d scale / n)) / scale.
    """
    n = x.shape[1] * x.shape[2]
    grad_tokens = torch.zeros_like(x) if grad_tokens is None else grad_tokens
    centred = x - mean
    # Sums over the tokens, (B, C): all that the gradients of weight and bias, and the means, need.
    of_bias, of_gain = grad_tokens.sum(1), (grad_tokens * centred).sum(1)
    # Not written as a product of matrices, which autocast would compute in half precision.
    inner = ((of_gain * weight).sum(1) / n).view_as(scale) / scale**2
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

    Lee et al., arXiv:2504.06629, eqs. 3-6. The scale keeps its gradient. `rescale=False` leaves out
    the second line (their Table 6, row 3). Published code keeps eps in a module global and the
    variance on the module.
    """

    def __init__(self, dim: int, eps: float = 1e-4, rescale: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.rescale = rescale
        self.weight, self.bias = affine_of(dim)

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        x = widened(x, self.weight)
        fast = FusedImageNorm if x.device.type in FUSED_ON else FoldedImageNorm
        formula = image_norm if torch.compiler.is_compiling() or is_emulated() else fast.apply
        tokens, scale = formula(x, self.weight, self.bias, self.eps)
        return Normed(tokens, scale if self.rescale else None)
