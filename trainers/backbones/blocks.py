"""The Swin block that SwinIR and DRCT share, and how a group runs its blocks: kept for the backward pass, or recomputed there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainers.backbones.attention import Mlp, WindowAttention
from trainers.backbones.drop_path import DropPath
from trainers.backbones.network import MakeNorm, Size
from trainers.norms.base import recomputing

if TYPE_CHECKING:
    from jaxtyping import Float

Block = (
    nn.Module
)  # tokens (B, N, C), the image's size and drop-path factors (2, B) or None to tokens
Factors = Tensor | None
Run = Callable[[Block, Tensor, Size, Factors], Tensor]


def kept(block: Block, x: Tensor, size: Size, factors: Factors) -> Tensor:
    """Call the block; what its backward needs is kept."""
    return block(x, size, factors)


def recomputed(block: Block, x: Tensor, size: Size, factors: Factors) -> Tensor:
    """Call the block and keep only `x`: its backward runs the forward again (activation checkpointing)."""
    if not torch.is_grad_enabled():
        return block(x, size, factors)
    return checkpoint(
        block,
        x,
        size,
        factors,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), recomputing()),
    )


class SwinBlock(nn.Module):
    """Window attention and an MLP, each a residual branch that begins with a norm."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, img_size: int, shifted: bool, mlp_ratio: float,
        qkv_bias: bool, drop_path: float, make_norm: MakeNorm,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shift = window_size // 2 if shifted else 0
        self.norm1 = make_norm(dim)
        self.attn = WindowAttention(dim, window_size, img_size, num_heads, qkv_bias)
        self.norm2 = make_norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: Float[Tensor, "2 B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        of_attention, of_mlp = (None, None) if factors is None else factors
        normed = self.norm1(x)
        x = x + normed.restore(
            self.drop_path(self.attn(normed.tokens, size, self.shift), of_attention)
        )
        normed = self.norm2(x)
        return x + normed.restore(self.drop_path(self.mlp(normed.tokens), of_mlp))
