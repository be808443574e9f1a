"""Restormer (Zamir et al., arXiv:2111.09881), with any norm, under the published state-dict keys.

Axis letters: B image, C channel, N token (= H * W), D channel of a head.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.backbones.around import Around, MakeNorm
from trainers.backbones.blocks import Run, run_of, through
from trainers.backbones.network import (
    InputScale,
    Size,
    reflect_to_multiple,
    to_image,
    to_tokens,
)
from trainers.backbones.restormer_shape import MULTIPLE_PX, hidden_channels
from trainers.rounding import as_kernel

if TYPE_CHECKING:
    from jaxtyping import Float


def under(name: str, module: nn.Module) -> nn.Sequential:
    """Wrap `module` so that its keys begin with `name`, as the published ones do."""
    return nn.Sequential(OrderedDict([(name, module)]))


def depthwise(channels: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)


def attend(
    q: Float[Tensor, "B heads D N"],
    k: Float[Tensor, "B heads D N"],
    v: Float[Tensor, "B heads D N"],
    temperature: Float[Tensor, "heads 1 1"],
) -> Float[Tensor, "B heads D N"]:
    """softmax(cos(q, k) * temperature) v, where cos compares two channels over all tokens."""
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    scores = (q @ k.transpose(-2, -1)) * temperature
    return scores.softmax(dim=-1) @ v


class TransposedAttention(nn.Module):
    """Multi-Dconv head transposed attention (MDTA): a head's channels attend to one another."""

    def __init__(self, dim: int, num_heads: int, bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, dim * 3, 1, bias=bias)
        self.qkv_dwconv = depthwise(dim * 3, bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        qkv = self.qkv_dwconv(self.qkv(x)).flatten(2)
        q, k, v = (part.unflatten(1, (self.num_heads, -1)) for part in qkv.chunk(3, dim=1))
        attended = as_kernel(attend, q, k, v, self.temperature)
        return self.project_out(attended.flatten(1, 2).unflatten(2, x.shape[2:]))


class GatedFeedForward(nn.Module):
    """Gated-Dconv feed-forward network (GDFN): GELU of one half times the other."""

    def __init__(self, dim: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(dim, hidden * 2, 1, bias=bias)
        self.dwconv = depthwise(hidden * 2, bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class TransformerBlock(nn.Module):
    """MDTA and GDFN, each a residual branch that begins with a norm."""

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, bias: bool, make_norm: MakeNorm
    ) -> None:
        super().__init__()
        self.norm1 = under("body", make_norm(dim))
        self.attn = TransposedAttention(dim, num_heads, bias)
        self.norm2 = under("body", make_norm(dim))
        self.ffn = GatedFeedForward(dim, hidden_channels(dim, mlp_ratio), bias)

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: None = None
    ) -> Float[Tensor, "B N C"]:
        """`factors` is unused, as no branch is ever dropped here; `Run` hands it to every block."""
        normed = self.norm1(x)
        x = x + normed.restore(to_tokens(self.attn(to_image(normed.tokens, size))))
        normed = self.norm2(x)
        return x + normed.restore(to_tokens(self.ffn(to_image(normed.tokens, size))))


class Level(nn.ModuleList):
    """The blocks of one level on one side of the U."""

    def __init__(self, blocks: Iterable[TransformerBlock], run: Run) -> None:
        super().__init__(blocks)
        self.run = run

    def forward(self, x: Float[Tensor, "B N C"], size: Size) -> Float[Tensor, "B N C"]:
        return through(self, self.run, x, size, None)


def down(channels: int) -> nn.Sequential:
    """Halve the side and double the channels."""
    convolution = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
    return under("body", nn.Sequential(convolution, nn.PixelUnshuffle(2)))


def up(channels: int) -> nn.Sequential:
    """Double the side and halve the channels."""
    convolution = nn.Conv2d(channels, channels * 2, 3, padding=1, bias=False)
    return under("body", nn.Sequential(convolution, nn.PixelShuffle(2)))


def run_level(level: Level, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    size = (image.shape[2], image.shape[3])
    return to_image(level(to_tokens(image).contiguous(), size), size)


class Restormer(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to the same size; any H and W, reflect-padded to MULTIPLE_PX.

    A U of four levels; each level down has half the side and twice the channels. On the way up,
    features from below are concatenated with those that the level computed on the way down, and a
    convolution halves their channels. The first level has none, so it is twice as wide on the way
    up. The output is the input plus what the network adds. `make_level` builds a level from a width
    and an index.

    As published, images enter unscaled; with `stdnorm` they are standardised first.
    """

    def __init__(
        self,
        *,
        make_level: Callable[[int, int], Level],
        make_refinement: Callable[[int], Level],
        stdnorm: bool,
        embed_dim: int,
        bias: bool,
    ) -> None:
        super().__init__()
        c = embed_dim
        self.input_scale = InputScale(stdnorm, img_range=1.0) if stdnorm else None
        self.patch_embed = under("proj", nn.Conv2d(3, c, 3, padding=1, bias=False))
        self.encoder_level1 = make_level(c, 0)
        self.down1_2 = down(c)
        self.encoder_level2 = make_level(2 * c, 1)
        self.down2_3 = down(2 * c)
        self.encoder_level3 = make_level(4 * c, 2)
        self.down3_4 = down(4 * c)
        self.latent = make_level(8 * c, 3)
        self.up4_3 = up(8 * c)
        self.reduce_chan_level3 = nn.Conv2d(8 * c, 4 * c, 1, bias=bias)
        self.decoder_level3 = make_level(4 * c, 2)
        self.up3_2 = up(4 * c)
        self.reduce_chan_level2 = nn.Conv2d(4 * c, 2 * c, 1, bias=bias)
        self.decoder_level2 = make_level(2 * c, 1)
        self.up2_1 = up(2 * c)
        self.decoder_level1 = make_level(2 * c, 0)
        self.refinement = make_refinement(2 * c)
        self.output = nn.Conv2d(2 * c, 3, 3, padding=1, bias=bias)

    @property
    def groups(self) -> nn.ModuleList:
        """The levels in the order of the forward pass: 1, 2, 3, latent, 3, 2, 1, refinement."""
        encoder = [self.encoder_level1, self.encoder_level2, self.encoder_level3, self.latent]
        decoder = [self.decoder_level3, self.decoder_level2, self.decoder_level1, self.refinement]
        return nn.ModuleList([*encoder, *decoder])

    def features(self, shallow: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        one = run_level(self.encoder_level1, shallow)
        two = run_level(self.encoder_level2, self.down1_2(one))
        three = run_level(self.encoder_level3, self.down2_3(two))
        below = run_level(self.latent, self.down3_4(three))
        beside = torch.cat([self.up4_3(below), three], dim=1)
        below = run_level(self.decoder_level3, self.reduce_chan_level3(beside))
        beside = torch.cat([self.up3_2(below), two], dim=1)
        below = run_level(self.decoder_level2, self.reduce_chan_level2(beside))
        beside = torch.cat([self.up2_1(below), one], dim=1)
        return run_level(self.refinement, run_level(self.decoder_level1, beside))

    def forward(
        self, image: Float[Tensor, "B 3 H W"], factors: None = None
    ) -> Float[Tensor, "B 3 H W"]:
        """`factors`, those of drop path, is unused: Restormer has none."""
        h, w = image.shape[2:]
        padded = reflect_to_multiple(image, MULTIPLE_PX)
        scaled = padded if self.input_scale is None else self.input_scale(padded)
        output = self.output(self.features(self.patch_embed(scaled))) + scaled
        output = output if self.input_scale is None else self.input_scale.undo(output)
        return output[:, :, :h, :w]


def restormer(
    *,
    make_norm: MakeNorm,
    around: Around,
    recompute: bool,
    embed_dim: int = 48,
    depths: Sequence[int] = (4, 6, 6, 8),
    num_heads: Sequence[int] = (1, 2, 4, 8),
    refinement_depth: int = 4,
    mlp_ratio: float = 2.66,
    bias: bool = False,
) -> Restormer:
    """A Restormer with `depths` blocks of `num_heads` heads on each level down to the latent one.

    The published names are `dim`, `num_blocks`, `heads`, `num_refinement_blocks` and
    `ffn_expansion_factor`. The scale is 1: a spec with another is refused. `recompute` trades time
    for memory in training.
    """
    assert around.scale == 1

    def make(width: int, depth: int, heads: int) -> Level:
        blocks = (TransformerBlock(width, heads, mlp_ratio, bias, make_norm) for _ in range(depth))
        return Level(blocks, run_of(recompute))

    return Restormer(
        make_level=lambda width, i: make(width, depths[i], num_heads[i]),
        make_refinement=lambda width: make(width, refinement_depth, num_heads[0]),
        stdnorm=around.stdnorm,
        embed_dim=embed_dim,
        bias=bias,
    )
