"""The network around the groups of SwinIR, HAT and DRCT: embedding, end, reconstruction head.

State-dict keys are the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.backbones.around import Around
from trainers.backbones.drop_path import BRANCHES, DropPath, factors_of, rates_of
from trainers.backbones.network_shape import NUM_FEATURES
from trainers.norms.base import Norm

if TYPE_CHECKING:
    from jaxtyping import Float

DF2K_MEAN = (0.4488, 0.4371, 0.4040)
DF2K_STD = (0.2842, 0.2701, 0.2920)

Size = tuple[int, int]


def to_tokens(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N C"]:
    return image.flatten(2).transpose(1, 2)


def to_image(tokens: Float[Tensor, "B N C"], size: Size) -> Float[Tensor, "B C H W"]:
    """A view in channels_last order, which convolutions take without a copy."""
    return tokens.transpose(1, 2).unflatten(2, size)


def initialise(module: nn.Module) -> None:
    """Initialise linear layers as published: weights truncated normal with std 0.02, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def pixel_shuffle_steps(channels: int, scale: int) -> nn.Sequential:
    """One or two steps of x2, or one of x3; each is a convolution and a pixel shuffle."""
    factors = {2: [2], 3: [3], 4: [2, 2]}[scale]
    steps: list[nn.Module] = []
    for factor in factors:
        steps += [nn.Conv2d(channels, channels * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*steps)


def reflect_to_multiple(image: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C H2 W2"]:
    """Reflect-pad the image below and to the right to multiples of `size`.

    An image too small for that in one go is reflected repeatedly.
    """
    for axis in (2, 3):
        while missing := -image.shape[axis] % size:
            # A reflection leaves out the outermost row, so a lone row is replicated instead.
            reach = image.shape[axis] - 1
            grow = min(missing, max(reach, 1))
            padding = (0, 0, 0, grow) if axis == 2 else (0, grow, 0, 0)
            image = F.pad(image, padding, mode="reflect" if reach else "replicate")
    return image


class InputScale(nn.Module):
    """(image - mean) * img_range / std, with the DF2K mean, and with its std if `stdnorm`, else 1.

    `undo` is the inverse, for the output.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, stdnorm: bool, img_range: float) -> None:
        super().__init__()
        std = torch.tensor(DF2K_STD if stdnorm else (1.0, 1.0, 1.0)) / img_range
        # Not persistent, so that state dicts keep to the published keys.
        self.register_buffer("mean", torch.tensor(DF2K_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        return (image - self.mean) / self.std

    def undo(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        return image * self.std + self.mean


class PatchEmbed(nn.Module):
    """The norm after the embedding: a separate module because the published keys name it."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm


class RestorationTransformer(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to (B, 3, scale*H, scale*W), for any H and W.

    Images are reflect-padded to whole windows. `make_groups` builds the residual groups: modules
    from tokens (B, N, C), the image's size (H, W), and the drop-path factors of their blocks
    (K, 2, B) or None, to tokens. The probes look at their outputs.

    With a scale of 1 the output is the input plus what the network adds. Otherwise `upsampler`
    names the head: `pixelshuffle` (a convolution for every doubling) or `pixelshuffledirect` (only
    one).
    """

    def __init__(
        self,
        make_groups: Callable[[], Iterable[nn.Module]],
        around: Around,
        embed_dim: int,
        window_size: int,
        img_range: float,
        *,
        upsampler: str,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.scale = around.scale
        self.upsampler = upsampler if self.scale > 1 else ""
        self.input_scale = InputScale(around.stdnorm, img_range)
        self.conv_first = nn.Conv2d(3, embed_dim, 3, padding=1)
        self.patch_embed = PatchEmbed(around.make_embed_norm(embed_dim))
        self.layers = nn.ModuleList(make_groups())
        # Blocks with drop path in each group: how `features` splits the factors.
        self._drop_paths = [
            sum(isinstance(part, DropPath) for part in group.modules()) for group in self.layers
        ]
        self.norm = around.make_end_norm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        if self.upsampler == "pixelshuffle":
            self.conv_before_upsample = nn.Sequential(
                nn.Conv2d(embed_dim, NUM_FEATURES, 3, padding=1), nn.LeakyReLU()
            )
            self.upsample = pixel_shuffle_steps(NUM_FEATURES, self.scale)
            self.conv_last = nn.Conv2d(NUM_FEATURES, 3, 3, padding=1)
        elif self.upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(
                nn.Conv2d(embed_dim, 3 * self.scale**2, 3, padding=1), nn.PixelShuffle(self.scale)
            )
        else:
            self.conv_last = nn.Conv2d(embed_dim, 3, 3, padding=1)
        self.apply(initialise)

    @property
    def groups(self) -> nn.ModuleList:
        return self.layers

    @property
    def end_norm(self) -> Norm:
        """The norm before the head."""
        return self.norm

    def features(
        self, shallow: Float[Tensor, "B C H W"], factors: Float[Tensor, "K 2 B"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        size = (shallow.shape[2], shallow.shape[3])
        # An affine norm would leave tokens in the convolution's layout.
        x = self.patch_embed.norm(to_tokens(shallow)).tokens.contiguous()
        of_groups = (
            [None] * len(self.layers) if factors is None else factors.split(self._drop_paths)
        )
        for group, of_group in zip(self.layers, of_groups, strict=True):
            x = group(x, size, of_group)
        return self.conv_after_body(to_image(self.norm(x).tokens, size)) + shallow

    def reconstruct(
        self, features: Float[Tensor, "B C H W"], image: Float[Tensor, "B 3 H W"]
    ) -> Tensor:
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(self.conv_before_upsample(features)))
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(features)
        return image + self.conv_last(features)

    def forward(
        self, image: Float[Tensor, "B 3 H W"], factors: Float[Tensor, "K 2 B"] | None = None
    ) -> Float[Tensor, "B 3 sH sW"]:
        """`factors` are those of drop path; without them, training mode lets torch draw some."""
        h, w = image.shape[2:]
        if self.training and factors is None and (rates := rates_of(self)).any():
            factors = factors_of(
                torch.rand(len(rates), BRANCHES, len(image), device=image.device), rates
            )
        scaled = self.input_scale(reflect_to_multiple(image, self.window_size))
        output = self.reconstruct(self.features(self.conv_first(scaled), factors), scaled)
        return self.input_scale.undo(output)[:, :, : h * self.scale, : w * self.scale]
