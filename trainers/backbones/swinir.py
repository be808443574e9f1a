"""SwinIR (Liang et al., arXiv:2108.10257), with any norm, under the published state-dict keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainers.backbones.blocks import Run, SwinBlock, SwinGroup, kept, recomputed
from trainers.backbones.network import MakeNorm, RestorationTransformer, Size

if TYPE_CHECKING:
    from jaxtyping import Float


class BlockSequence(nn.Module):
    """The blocks of a group: a separate module because the published keys name it."""

    def __init__(self, blocks: Sequence[SwinBlock], run: Run) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.run = run

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: Float[Tensor, "K 2 B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        for k, block in enumerate(self.blocks):
            x = self.run(block, x, size, None if factors is None else factors[k])
        return x


def swinir(
    *, make_norm: MakeNorm, make_embed_norm: MakeNorm, make_end_norm: MakeNorm,
    stdnorm: bool, scale: int, recompute: bool,
    embed_dim: int = 180, depths: Sequence[int] = (6,) * 6, num_heads: Sequence[int] = (6,) * 6,
    window_size: int = 8, img_size: int = 0, mlp_ratio: float = 2.0, qkv_bias: bool = True,
    drop_path: float = 0.1, img_range: float = 1.0, upsampler: str = "pixelshuffle",
) -> RestorationTransformer:  # fmt: skip
    """A SwinIR whose groups have `depths` blocks of `num_heads` heads.

    Every second block is shifted. `recompute` trades time for memory in training.
    """

    def groups() -> Iterator[SwinGroup]:
        rates = iter(torch.linspace(0, drop_path, sum(depths)).tolist())
        for depth, heads in zip(depths, num_heads, strict=True):
            blocks = [
                SwinBlock(
                    embed_dim,
                    heads,
                    window_size,
                    img_size,
                    i % 2 == 1,
                    mlp_ratio,
                    qkv_bias,
                    next(rates),
                    make_norm,
                )
                for i in range(depth)
            ]
            sequence = BlockSequence(blocks, recomputed if recompute else kept)
            yield SwinGroup(embed_dim, sequence)

    return RestorationTransformer(
        make_groups=groups,
        make_embed_norm=make_embed_norm,
        make_end_norm=make_end_norm,
        stdnorm=stdnorm,
        img_range=img_range,
        scale=scale,
        embed_dim=embed_dim,
        window_size=window_size,
        upsampler=upsampler,
    )
