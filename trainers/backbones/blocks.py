"""The Swin block of SwinIR and DRCT, the group of SwinIR and HAT, and the ways to run a block.

What a block computes is either kept for the backward pass or recomputed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainers.backbones.around import MakeNorm
from trainers.backbones.attention import Mlp, WindowAttention
from trainers.backbones.drop_path import DropPath
from trainers.backbones.network import Size, to_image, to_tokens
from trainers.norms.base import recomputing

if TYPE_CHECKING:
    from jaxtyping import Float

# From tokens (B, N, C), the image's size, and drop-path factors (2, B) or None, to tokens.
Block = nn.Module
Factors = Tensor | None
Run = Callable[[Block, Tensor, Size, Factors], Tensor]
MakeAttention = Callable[[int, int], WindowAttention]  # from channels and heads


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


def run_of(recompute: bool) -> Run:
    """The way to run blocks: `recompute` trades time for memory in training."""
    return recomputed if recompute else kept


def through(
    blocks: Iterable[Block], run: Run, x: Float[Tensor, "B N C"], size: Size, factors: Factors
) -> Float[Tensor, "B N C"]:
    """Run one block after another, each with its own of the drop-path factors (K, 2, B), if any."""
    for k, block in enumerate(blocks):
        x = run(block, x, size, None if factors is None else factors[k])
    return x


def rates_by_group(drop_path: float, depths: Sequence[int]) -> list[list[float]]:
    """The drop-path rate of each block, by group: from 0 to `drop_path` in even steps."""
    rates = torch.linspace(0, drop_path, sum(depths)).split(list(depths))
    return [group.tolist() for group in rates]


class TwoBranches(nn.Module):
    """A block of two residual branches, each of normalised tokens: `first`, then an MLP.

    Each branch gets its drop-path factors (B,), if any, and its norm gives it back its scale. A
    block that inherits this calls `_with_mlp` once it has made `norm1` and what `first` needs.
    """

    norm1: nn.Module

    def _with_mlp(self, dim: int, mlp_ratio: float, drop_path: float, make_norm: MakeNorm) -> None:
        self.norm2 = make_norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: Float[Tensor, "2 B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        of_first, of_mlp = (None, None) if factors is None else factors
        normed = self.norm1(x)
        x = x + normed.restore(self.first(normed.tokens, size, of_first))
        normed = self.norm2(x)
        return x + normed.restore(self.drop_path(self.mlp(normed.tokens), of_mlp))

    def first(
        self, tokens: Float[Tensor, "B N C"], size: Size, factors: Tensor | None
    ) -> Float[Tensor, "B N C"]:
        """The branch in front of the MLP, with its drop path."""
        raise NotImplementedError


class SwinBlock(TwoBranches):
    """Window attention and an MLP, each a residual branch that begins with a norm."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        shifted: bool,
        mlp_ratio: float,
        drop_path: float,
        make_attention: MakeAttention,
        make_norm: MakeNorm,
    ) -> None:
        super().__init__()
        self.norm1 = make_norm(dim)
        self.attn = make_attention(dim, num_heads)
        self.shift = self.attn.size // 2 if shifted else 0
        self._with_mlp(dim, mlp_ratio, drop_path, make_norm)

    def first(
        self, tokens: Float[Tensor, "B N C"], size: Size, factors: Tensor | None
    ) -> Float[Tensor, "B N C"]:
        return self.drop_path(self.attn(tokens, size, self.shift), factors)


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
