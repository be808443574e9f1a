"""HAT (Chen et al., arXiv:2205.04437), with any norm, under the published state-dict keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainers.backbones.around import Around, MakeNorm
from trainers.backbones.attention import (
    Mlp,
    WindowAttention,
    as_maps,
    attend,
    image_of,
    larger_windows_of,
    overlapping_position_index,
    position_bias,
    position_bias_table,
    windows_of,
)
from trainers.backbones.blocks import (
    MakeAttention,
    Run,
    SwinGroup,
    TwoBranches,
    rates_by_group,
    run_of,
    through,
)
from trainers.backbones.network import RestorationTransformer, Size, to_image, to_tokens

if TYPE_CHECKING:
    from jaxtyping import Float


class ChannelAttention(nn.Module):
    """Each channel times a factor in (0, 1), computed from the spatial means of all channels."""

    def __init__(self, dim: int, squeeze_factor: int) -> None:
        super().__init__()
        squeezed = dim // squeeze_factor
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(dim, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, dim, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x * self.attention(x)


class ConvBranch(nn.Module):
    """The convolutional branch (CAB) that a hybrid block has beside its attention."""

    def __init__(self, dim: int, compress_ratio: int, squeeze_factor: int) -> None:
        super().__init__()
        inner = dim // compress_ratio
        self.cab = nn.Sequential(
            nn.Conv2d(dim, inner, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(inner, dim, 3, padding=1),
            ChannelAttention(dim, squeeze_factor),
        )

    def forward(self, tokens: Float[Tensor, "B N C"], size: Size) -> Float[Tensor, "B N C"]:
        return to_tokens(self.cab(to_image(tokens, size)))


class HybridBlock(TwoBranches):
    """HAB: one norm feeds (shifted) window attention and the convolutional branch; then an MLP.

    The norm's scale multiplies the sum of both branches, after drop path and `conv_scale`
    (protocol section 1).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        shifted: bool,
        conv_scale: float,
        mlp_ratio: float,
        drop_path: float,
        make_attention: MakeAttention,
        make_conv: Callable[[int], ConvBranch],
        make_norm: MakeNorm,
    ) -> None:
        super().__init__()
        self.conv_scale = conv_scale
        self.norm1 = make_norm(dim)
        self.attn = make_attention(dim, num_heads)
        self.shift = self.attn.size // 2 if shifted else 0
        self.conv_block = make_conv(dim)
        self._with_mlp(dim, mlp_ratio, drop_path, make_norm)

    def first(
        self, tokens: Float[Tensor, "B N C"], size: Size, factors: Tensor | None
    ) -> Float[Tensor, "B N C"]:
        convolved = self.conv_block(tokens, size)
        attended = self.drop_path(self.attn(tokens, size, self.shift), factors)
        return torch.add(attended, convolved, alpha=self.conv_scale)


class OverlappingBlock(nn.Module):
    """OCAB: windows attend to larger ones around them; then an MLP.

    As published, the larger windows see zeros beyond the image's border, which are not masked.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        overlap_ratio: float,
        mlp_ratio: float,
        qkv_bias: bool,
        make_norm: MakeNorm,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.larger = window_size + int(window_size * overlap_ratio)
        self.norm1 = make_norm(dim)
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.relative_position_bias_table = position_bias_table(
            (window_size + self.larger - 1) ** 2, num_heads
        )
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = make_norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def position_maps(self) -> Float[Tensor, "heads S S"]:
        """Offsets of the key from the query, equally far in all directions.

        The published table begins (larger - 2) rows and columns further on (protocol section 2).
        """
        side = self.window_size + self.larger - 1
        rolled_by = (self.larger - 2) * (side + 1)
        return as_maps(self.relative_position_bias_table.roll(rolled_by, 0))

    def attention(self, tokens: Float[Tensor, "B N C"], size: Size) -> Float[Tensor, "B N C"]:
        (h, w), (b, n, c), side = size, tokens.shape, self.window_size
        q, keys_and_values = self.qkv(tokens).view(b, h, w, 3 * c).split((c, 2 * c), dim=-1)
        around = larger_windows_of(keys_and_values, side, self.larger)
        index = overlapping_position_index(side, self.larger, tokens.device)
        bias = position_bias(self.relative_position_bias_table, index)
        return self.proj(image_of(attend(windows_of(q, side), around, bias, None)).view(b, n, c))

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: None = None
    ) -> Float[Tensor, "B N C"]:
        """`factors` is unused, as no branch is ever dropped here; `Run` hands it to every block."""
        normed = self.norm1(x)
        x = normed.restore(self.attention(normed.tokens, size)) + x
        normed = self.norm2(x)
        return x + normed.restore(self.mlp(normed.tokens))


class HybridSequence(nn.Module):
    """The blocks of a group (RHAG) and the overlapping one that ends it.

    A separate module because the published keys name it.
    """

    def __init__(self, blocks: Sequence[HybridBlock], last: OverlappingBlock, run: Run) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.overlap_attn = last
        self.run = run

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: Float[Tensor, "K 2 B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        x = through(self.blocks, self.run, x, size, factors)
        return self.run(self.overlap_attn, x, size, None)


def hat(
    *, make_norm: MakeNorm, around: Around, recompute: bool,
    embed_dim: int = 180, depths: Sequence[int] = (6,) * 6, num_heads: Sequence[int] = (6,) * 6,
    window_size: int = 16, img_size: int = 0, compress_ratio: int = 3, squeeze_factor: int = 30,
    conv_scale: float = 0.01, overlap_ratio: float = 0.5, mlp_ratio: float = 2.0,
    qkv_bias: bool = True, drop_path: float = 0.1, img_range: float = 1.0,
) -> RestorationTransformer:  # fmt: skip
    """A HAT whose groups have `depths` hybrid blocks of `num_heads` heads, then an overlapping one.

    Every second hybrid block is shifted. `recompute` trades time for memory in training.
    """

    make_attention = partial(
        WindowAttention, size=window_size, img_size=img_size, qkv_bias=qkv_bias
    )
    make_conv = partial(ConvBranch, compress_ratio=compress_ratio, squeeze_factor=squeeze_factor)

    def block(heads: int, shifted: bool, rate: float) -> HybridBlock:
        made = (make_attention, make_conv, make_norm)
        return HybridBlock(embed_dim, heads, shifted, conv_scale, mlp_ratio, rate, *made)

    def groups() -> Iterator[SwinGroup]:
        for heads, rates in zip(num_heads, rates_by_group(drop_path, depths), strict=True):
            blocks = [block(heads, i % 2 == 1, rate) for i, rate in enumerate(rates)]
            last = OverlappingBlock(
                embed_dim, heads, window_size, overlap_ratio, mlp_ratio, qkv_bias, make_norm
            )
            yield SwinGroup(embed_dim, HybridSequence(blocks, last, run_of(recompute)))

    return RestorationTransformer(
        groups, around, embed_dim, window_size, img_range, upsampler="pixelshuffle"
    )
