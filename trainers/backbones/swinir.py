"""SwinIR (Liang et al., arXiv:2108.10257), with any norm, under the published state-dict keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainers.backbones.around import Around, MakeNorm
from trainers.backbones.attention import WindowAttention
from trainers.backbones.blocks import Run, SwinBlock, SwinGroup, rates_by_group, run_of, through
from trainers.backbones.network import RestorationTransformer, Size

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
        return through(self.blocks, self.run, x, size, factors)


def swinir(
    *, make_norm: MakeNorm, around: Around, recompute: bool,
    embed_dim: int = 180, depths: Sequence[int] = (6,) * 6, num_heads: Sequence[int] = (6,) * 6,
    window_size: int = 8, img_size: int = 0, mlp_ratio: float = 2.0, qkv_bias: bool = True,
    drop_path: float = 0.1, img_range: float = 1.0, upsampler: str = "pixelshuffle",
) -> RestorationTransformer:  # fmt: skip
    """A SwinIR whose groups have `depths` blocks of `num_heads` heads.

    Every second block is shifted. `recompute` trades time for memory in training.
    """

    make_attention = partial(
        WindowAttention, size=window_size, img_size=img_size, qkv_bias=qkv_bias
    )

    def groups() -> Iterator[SwinGroup]:
        for heads, rates in zip(num_heads, rates_by_group(drop_path, depths), strict=True):
            blocks = [
                SwinBlock(embed_dim, heads, i % 2 == 1, mlp_ratio, rate, make_attention, make_norm)
                for i, rate in enumerate(rates)
            ]
            yield SwinGroup(embed_dim, BlockSequence(blocks, run_of(recompute)))

    return RestorationTransformer(
        groups, around, embed_dim, window_size, img_range, upsampler=upsampler
    )
