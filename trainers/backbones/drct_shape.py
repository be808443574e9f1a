"""DRCT's sizes, which knobs cannot work, and its cost. Planning reads this without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from trainers.backbones import network_shape
from trainers.shape import Amount, Blocks, CountNorm, Knobs, convolution

NUM_BLOCKS = 5  # of a dense group
NUM_WIDE = 3  # the first ones have an MLP of `mlp_ratio`, the others one as wide as their input


def dense_widths(knobs: Knobs) -> list[int]:
    """Channels that each block of a group sees."""
    return [knobs["embed_dim"] + k * knobs["gc"] for k in range(NUM_BLOCKS)]


def dense_heads(heads: int, width: int) -> int:
    """Heads of a block after the first, by the published rule: only some widths are a multiple."""
    return heads - width % heads


def misfit(knobs: Knobs) -> str | None:
    if why := network_shape.misfit(knobs):
        return why
    gc = knobs["gc"]
    for heads in dict.fromkeys(knobs["num_heads"]):
        for width in dense_widths(knobs)[1:]:
            if width % dense_heads(heads, width):
                return (
                    f"{heads} heads and gc {gc} give a block of {width} channels "
                    f"{dense_heads(heads, width)} heads (num_heads - width % num_heads), "
                    f"which do not divide it; gc {-(-gc // heads) * heads} would fit"
                )
    return None


def blocks(knobs: Knobs, count_norm: CountNorm) -> Iterator[Blocks]:
    """Count the 1 x 1 convolution after each block as part of it."""
    c, gc, last = knobs["embed_dim"], knobs["gc"], NUM_BLOCKS - 1
    for heads, times in Counter[int](knobs["num_heads"]).items():
        for k, width in enumerate(dense_widths(knobs)):
            own_heads = dense_heads(heads, width) if k else heads
            ratio = knobs["mlp_ratio"] if k < NUM_WIDE else 1.0
            block = network_shape.block(knobs, count_norm, width, own_heads, ratio=ratio)
            adjust = convolution(width, gc if k < last else c, taps=1)
            yield Blocks(block.plus(adjust), c, times)


def around(knobs: Knobs, count_embed: CountNorm, count_end: CountNorm, scale: int) -> list[Amount]:
    """Count no convolution per group: DRCT ends none with one."""
    return network_shape.around(knobs, count_embed, count_end, scale, convolutions=0)


def has_keys(keys: Collection[str]) -> bool:
    return any(".adjust1." in key for key in keys)


SHAPE = network_shape.windowed(
    small={**network_shape.SMALL, "depths": (5, 5), "gc": 4},
    first_block="layers.0.swin1",
    misfit=misfit,
    blocks=blocks,
    around=around,
    has_keys=has_keys,
)
