"""SwinIR (Liang et al., arXiv:2108.10257), with any norm. State-dict keys are those of the published code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.backbones.attention import (
    DropPath,
    Mlp,
    WindowAttention,
    from_windows,
    initialise,
    shift_mask,
    to_windows,
)
from trainers.backbones.heads import NUM_FEATURES, InputScale, pixel_shuffle_steps
from trainers.norms.base import Norm

if TYPE_CHECKING:
    from jaxtyping import Float

MakeNorm = Callable[[int], Norm]
Size = tuple[int, int]


class SwinBlock(nn.Module):
    """Window attention and an MLP, each a residual branch that begins with a norm; odd blocks shift their windows."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, shifted: bool, mlp_ratio: float, qkv_bias: bool,
        drop_path: float, make_norm: MakeNorm,
    ) -> None:  # fmt: skip
        super().__init__()
        self.window_size = window_size
        self.shift = window_size // 2 if shifted else 0
        self.norm1 = make_norm(dim)
        self.attn = WindowAttention(dim, window_size, num_heads, qkv_bias)
        self.norm2 = make_norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def attention(self, tokens: Float[Tensor, "B N C"], size: Size) -> Float[Tensor, "B N C"]:
        h, w = size
        b, n, c = tokens.shape
        shift = self.shift if min(size) > self.window_size else 0
        image = tokens.view(b, h, w, c)
        mask = None
        if shift:
            image = image.roll((-shift, -shift), (1, 2))
            mask = shift_mask(h, w, self.window_size, shift, tokens.device, tokens.dtype)
        windows = self.attn(to_windows(image, self.window_size), mask)
        image = from_windows(windows, self.window_size, h, w)
        if shift:
            image = image.roll((shift, shift), (1, 2))
        return image.view(b, n, c)

    def forward(self, x: Float[Tensor, "B N C"], size: Size) -> Float[Tensor, "B N C"]:
        normed = self.norm1(x)
        x = x + normed.restore(self.drop_path(self.attention(normed.tokens, size)))
        normed = self.norm2(x)
        return x + normed.restore(self.drop_path(self.mlp(normed.tokens)))


class BlockSequence(nn.Module):
    """The blocks of a group; a module of its own because the published keys name it."""

    def __init__(self, blocks: Sequence[SwinBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "B N C"], size: Size) -> Float[Tensor, "B N C"]:
        for block in self.blocks:
            x = block(x, size)
        return x


class SwinGroup(nn.Module):
    """A residual Swin Transformer block (RSTB): blocks, then a convolution, around an identity."""

    def __init__(self, dim: int, blocks: Sequence[SwinBlock]) -> None:
        super().__init__()
        self.residual_group = BlockSequence(blocks)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Float[Tensor, "B N C"], size: Size) -> Float[Tensor, "B N C"]:
        return x + to_tokens(self.conv(to_image(self.residual_group(x, size), size)))


class PatchEmbed(nn.Module):
    """The norm at the embedding; a module of its own because the published keys name it."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm


def to_tokens(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N C"]:
    return image.flatten(2).transpose(1, 2)


def to_image(tokens: Float[Tensor, "B N C"], size: Size) -> Float[Tensor, "B C H W"]:
    return tokens.transpose(1, 2).unflatten(2, size)


def reflect_to_multiple(image: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C H2 W2"]:
    """Reflect-padded below and to the right to multiples of `size`: more than once where the image is that small."""
    for axis in (2, 3):
        while missing := -image.shape[axis] % size:
            reach = image.shape[axis] - 1  # the outermost row is not repeated, but where it is the only one
            grow = min(missing, max(reach, 1))
            padding = (0, 0, 0, grow) if axis == 2 else (0, grow, 0, 0)
            image = F.pad(image, padding, mode="reflect" if reach else "replicate")
    return image


class SwinIR(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to (B, 3, scale*H, scale*W); any H and W, reflect-padded to the window.

    `make_norm`, `make_embed_norm` and `make_end_norm` build a norm for a number of channels. With `scale` 1 the output is
    the input plus what the network adds; otherwise `upsampler` names the head. `groups` are the residual groups whose
    outputs the probes look at.
    """

    def __init__(
        self, *, make_norm: MakeNorm, make_embed_norm: MakeNorm, make_end_norm: MakeNorm, stdnorm: bool, scale: int,
        embed_dim: int = 180, depths: Sequence[int] = (6,) * 6, num_heads: Sequence[int] = (6,) * 6, window_size: int = 8,
        mlp_ratio: float = 2.0, qkv_bias: bool = True, drop_path: float = 0.1, upsampler: str = "pixelshuffle",
    ) -> None:  # fmt: skip
        super().__init__()
        self.window_size = window_size
        self.scale = scale
        self.upsampler = upsampler if scale > 1 else ""
        self.input_scale = InputScale(stdnorm)
        self.conv_first = nn.Conv2d(3, embed_dim, 3, padding=1)
        self.patch_embed = PatchEmbed(make_embed_norm(embed_dim))
        rates = iter(torch.linspace(0, drop_path, sum(depths)).tolist())
        self.layers = nn.ModuleList(
            SwinGroup(
                embed_dim,
                [
                    SwinBlock(embed_dim, heads, window_size, i % 2 == 1, mlp_ratio, qkv_bias, next(rates), make_norm)
                    for i in range(depth)
                ],
            )
            for depth, heads in zip(depths, num_heads, strict=True)
        )
        self.norm = make_end_norm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        if self.upsampler == "pixelshuffle":
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(embed_dim, NUM_FEATURES, 3, padding=1), nn.LeakyReLU())
            self.upsample = pixel_shuffle_steps(NUM_FEATURES, scale)
            self.conv_last = nn.Conv2d(NUM_FEATURES, 3, 3, padding=1)
        elif self.upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(nn.Conv2d(embed_dim, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))
        else:
            self.conv_last = nn.Conv2d(embed_dim, 3, 3, padding=1)
        self.apply(initialise)

    @property
    def groups(self) -> nn.ModuleList:
        return self.layers

    def features(self, shallow: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        size = (shallow.shape[2], shallow.shape[3])
        x = self.patch_embed.norm(to_tokens(shallow)).tokens
        for group in self.layers:
            x = group(x, size)
        return self.conv_after_body(to_image(self.norm(x).tokens, size)) + shallow

    def reconstruct(self, features: Float[Tensor, "B C H W"], image: Float[Tensor, "B 3 H W"]) -> Tensor:
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(self.conv_before_upsample(features)))
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(features)
        return image + self.conv_last(features)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 sH sW"]:
        h, w = image.shape[2:]
        scaled = self.input_scale(reflect_to_multiple(image, self.window_size))
        output = self.reconstruct(self.features(self.conv_first(scaled)), scaled)
        return self.input_scale.undo(output)[:, :, : h * self.scale, : w * self.scale]
