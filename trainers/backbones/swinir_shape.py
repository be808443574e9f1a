"""SwinIR's sizes, which knobs cannot work, and its cost. Planning reads this without torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from trainers.backbones import network_shape
from trainers.shape import Blocks, CountNorm, Knobs


def blocks(knobs: Knobs, count_norm: CountNorm) -> Iterator[Blocks]:
    c = knobs["embed_dim"]
    for depth, heads, times in network_shape.groups(knobs):
        each = network_shape.block(knobs, count_norm, c, heads, ratio=knobs["mlp_ratio"])
        yield Blocks(each, c, depth * times)


def has_keys(keys: Collection[str]) -> bool:
    """Exclude HAT, whose groups have blocks under the same names and an overlapping one besides."""
    has_blocks = any(".residual_group.blocks." in key for key in keys)
    return has_blocks and not any(".overlap_attn." in key for key in keys)


SHAPE = network_shape.windowed(
    small=network_shape.SMALL,
    networks={
        "pixelshuffle": ("sr_x2", {}),
        "pixelshuffledirect": ("sr_x3", {"upsampler": "pixelshuffledirect"}),
        "same size": ("jpeg_10", {}),
    },
    first_block="layers.0.residual_group.blocks.0",
    blocks=blocks,
    has_keys=has_keys,
)
