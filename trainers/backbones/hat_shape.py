"""HAT's sizes, which knobs cannot work, and its cost. Planning reads this without torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from trainers.backbones import network_shape
from trainers.shape import Amount, Blocks, CountNorm, Knobs, convolution, together


def misfit(knobs: Knobs) -> str | None:
    return together((network_shape.misfit(knobs), *_misfits(knobs)))


def _misfits(knobs: Knobs) -> Iterator[str]:
    width, window = knobs["embed_dim"], knobs["window_size"]
    for knob in ("compress_ratio", "squeeze_factor"):
        if knobs[knob] > width:
            yield f"{knob} {knobs[knob]} leaves no channel of embed_dim {width}"
    overlap = int(window * knobs["overlap_ratio"])
    if overlap % 2:
        yield (
            f"overlap_ratio {knobs['overlap_ratio']:g} makes a window of {window} larger by "
            f"{overlap} pixels, which must be an even number: half of them go on either side"
        )


def blocks(knobs: Knobs, count_norm: CountNorm) -> Iterator[Blocks]:
    """Yield the hybrid blocks of each kind of group, and the overlapping block that ends it."""
    c, ratio, window = knobs["embed_dim"], knobs["mlp_ratio"], knobs["window_size"]
    inner, squeezed = c // knobs["compress_ratio"], c // knobs["squeeze_factor"]
    gate = Amount(2 * c * squeezed + squeezed + c, 0, c)
    branch = convolution(c, inner).plus(convolution(inner, c), gate)
    larger = window + int(window * knobs["overlap_ratio"])
    for depth, heads, times in network_shape.groups(knobs):
        hybrid = network_shape.block(knobs, count_norm, c, heads, ratio=ratio).plus(branch)
        yield Blocks(hybrid, c, depth * times)
        overlapping = network_shape.block(knobs, count_norm, c, heads, ratio=ratio, larger=larger)
        yield Blocks(overlapping, c, times)


def has_keys(keys: Collection[str]) -> bool:
    return any(".overlap_attn." in key for key in keys)


SHAPE = network_shape.windowed(
    small={**network_shape.SMALL, "depths": (2,), "num_heads": (2,), "squeeze_factor": 4},
    first_block="layers.0.residual_group.blocks.0",
    misfit=misfit,
    blocks=blocks,
    has_keys=has_keys,
)
