"""The Swin block of SwinIR and DRCT, the group of SwinIR and HAT, and the ways to run a block.

What a block computes is either kept for the backward pass or recomputed there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainers.backbones.attention import Mlp, WindowAttention
from trainers.backbones.drop_path import DropPath
from trainers.backbones.network import MakeNorm, Size, to_image, to_tokens
from trainers.norms.base import recomputing

if TYPE_CHECKING:
    from jaxtyping import Float

# From tokens (B, N, C), the image's size, and drop-path factors (2, B) or None, to tokens.
Block = nn.Module
Factors = Tensor | None
Run = Callable[[Block, Tensor, Size, Factors], Tensor]


def kept(block: Block, x: Tensor, size: Size, factors: Factors) -> Tensor:
    """Call the block and keep everything that its backward pass needs."""
    return block(x, size, factors)


def recomputed(block: Block, x: Tensor, size: Size, factors: Factors) -> Tensor:
    """Call the block and keep only `x`: the backward runs it again (activation checkpointing)."""
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
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        img_size: int,
        shifted: bool,
        mlp_ratio: float,
        qkv_bias: bool,
        drop_path: float,
        make_norm: MakeNorm,
    ) -> None:
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


class SwinGroup(nn.Module):
    """A sequence of blocks, then a convolution, around an identity: SwinIR's RSTB, HAT's RHAG.

    `sequence` takes tokens, the image's size and the drop-path factors of its blocks, or None.
    """

    def __init__(self, dim: int, sequence: nn.Module) -> None:
        super().__init__()
        self.residual_group = sequence  # so named in the published keys
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: Float[Tensor, "K 2 B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        return x + to_tokens(self.conv(to_image(self.residual_group(x, size, factors), size)))
