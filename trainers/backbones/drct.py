"""DRCT (Hsu et al., arXiv:2404.00722), with any norm, under the published state-dict keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.backbones.around import Around, MakeNorm
from trainers.backbones.attention import WindowAttention
from trainers.backbones.blocks import MakeAttention, Run, SwinBlock, rates_by_group, run_of
from trainers.backbones.drct_shape import NUM_BLOCKS, NUM_WIDE, dense_heads
from trainers.backbones.network import RestorationTransformer, Size, to_image, to_tokens

if TYPE_CHECKING:
    from jaxtyping import Float

RESIDUAL_SCALE = 0.2
SLOPE = 0.2  # of the leaky ReLU between blocks


class DenseGroup(nn.Module):
    """A residual dense group (RDG): five Swin blocks, each of which sees the group's input and the
    outputs of all earlier ones.

    Block k, counted from 0, sees width = dim + k * gc channels. From block 1 on it has
    heads - (width % heads) heads. Blocks 1 and 3 are shifted; blocks 3 and 4 have an MLP as wide as
    their input. A 1 x 1 convolution after each block reduces it to gc channels, the last to dim.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        gc: int,
        mlp_ratio: float,
        drop_path: float,
        make_attention: MakeAttention,
        make_norm: MakeNorm,
        run: Run,
    ) -> None:
        super().__init__()
        self.run = run
        for k in range(NUM_BLOCKS):
            width = dim + k * gc
            heads = dense_heads(num_heads, width) if k else num_heads
            ratio = mlp_ratio if k < NUM_WIDE else 1.0
            block = SwinBlock(width, heads, k % 2 == 1, ratio, drop_path, make_attention, make_norm)
            # Single attributes, not a list of modules, because the published keys number them so.
            setattr(self, f"swin{k + 1}", block)
            setattr(self, f"adjust{k + 1}", nn.Conv2d(width, gc if k + 1 < NUM_BLOCKS else dim, 1))

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: Float[Tensor, "K 2 B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        parts = [x]
        for k in range(1, NUM_BLOCKS + 1):
            block, adjust = getattr(self, f"swin{k}"), getattr(self, f"adjust{k}")
            seen = parts[0] if k == 1 else torch.cat(parts, dim=-1)
            out = self.run(block, seen, size, None if factors is None else factors[k - 1])
            new = to_tokens(adjust(to_image(out, size)))
            parts.append(new if k == NUM_BLOCKS else F.leaky_relu(new, SLOPE))
        return torch.add(x, parts[-1], alpha=RESIDUAL_SCALE)


def drct(
    *, make_norm: MakeNorm, around: Around, recompute: bool,
    embed_dim: int = 180, depths: Sequence[int] = (6,) * 6, num_heads: Sequence[int] = (6,) * 6,
    window_size: int = 16, img_size: int = 0, gc: int = 32, mlp_ratio: float = 2.0,
    qkv_bias: bool = True, drop_path: float = 0.1, img_range: float = 1.0,
) -> RestorationTransformer:  # fmt: skip
    """A DRCT. `num_heads` are the heads of each group's first block.

    Every group has five blocks. As in the published code, `depths` only decides how drop path grows
    over the groups: all blocks of a group have the rate that its first block would have if the
    groups had `depths` blocks. `recompute` trades time for memory in training.
    """

    run = run_of(recompute)
    make_attention = partial(
        WindowAttention, size=window_size, img_size=img_size, qkv_bias=qkv_bias
    )

    def groups() -> Iterator[DenseGroup]:
        for heads, rates in zip(num_heads, rates_by_group(drop_path, depths), strict=True):
            yield DenseGroup(
                embed_dim, heads, gc, mlp_ratio, rates[0], make_attention, make_norm, run
            )

    return RestorationTransformer(
        groups, around, embed_dim, window_size, img_range, upsampler="pixelshuffle"
    )
