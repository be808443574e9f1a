"""Restormer's sizes, which knobs cannot work, and its cost. Planning reads this without torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import NamedTuple

from trainers.catalog import DEEPEST
from trainers.shape import (
    Amount,
    BadSize,
    Blocks,
    CountNorm,
    Knobs,
    Shape,
    Size,
    convolution,
    together,
)

NUM_LEVELS = 4
MULTIPLE_PX: int = 2 ** (NUM_LEVELS - 1)


class Level(NamedTuple):
    """The blocks of one level; `tokens` is how many it has for each token of the input."""

    channels: int
    heads: int
    number: int
    tokens: Fraction


def levels(knobs: Knobs) -> Iterator[Level]:
    """Yield the levels down, the latent one, those up, and the refinement.

    On the way up, the first level keeps 2 * embed_dim channels: nothing reduces them there.
    """
    depths, heads, c = knobs["depths"], knobs["num_heads"], knobs["embed_dim"]
    for i in range(NUM_LEVELS):
        yield Level(2**i * c, heads[i], depths[i], Fraction(1, 4**i))
    for i in range(NUM_LEVELS - 2, 0, -1):
        yield Level(2**i * c, heads[i], depths[i], Fraction(1, 4**i))
    yield Level(2 * c, heads[0], depths[0], Fraction(1))
    yield Level(2 * c, heads[0], knobs["refinement_depth"], Fraction(1))


def hidden_channels(channels: int, mlp_ratio: float) -> int:
    """Channels of each of the two halves of a gated feed-forward network."""
    return int(channels * mlp_ratio)


def misfit(knobs: Knobs) -> str | None:
    return together(_misfits(knobs))


def _misfits(knobs: Knobs) -> Iterator[str]:
    for knob in ("depths", "num_heads"):
        if len(knobs[knob]) != NUM_LEVELS:
            yield f"{knob} names {len(knobs[knob])} levels; there are {NUM_LEVELS}"
    width, heads = knobs["embed_dim"], knobs["num_heads"]
    # Channels double at each level down, and halve before the pixels of one are spread over them.
    step = math.lcm(2, *(count // math.gcd(count, 2**i) for i, count in enumerate(heads)))
    if width % step and len(heads) == NUM_LEVELS:
        below, above = width - width % step, width - width % step + step
        fits = f"{below} or {above}" if below else str(above)
        why = f"which halving the channels and num_heads {list(heads)} need"
        yield f"embed_dim {width} is not a multiple of {step}, {why}; {fits} would fit"
    ratio = knobs["mlp_ratio"]
    if hidden_channels(width, ratio) < 1:
        yield f"mlp_ratio {ratio:g} leaves an MLP of embed_dim {width} without channels"


def refusal(task: str, knobs_of_task: Knobs) -> str | None:
    scale = knobs_of_task.get("scale", 1)
    if scale == 1:
        return None
    return f"restormer gives an image of its input's size, and {task} asks for {scale} times that"


def sized(knobs: Knobs, width: int | None, depth: int | None) -> Knobs:
    """Put `depth` blocks on the first level and scale the other levels in proportion.

    Raises BadSize where a level would not have a whole number of blocks, or too many.
    """
    values = dict(knobs)
    if width is not None:
        values["embed_dim"] = width
    if depth is None:
        return values
    first, *others = knobs["depths"]
    numbers = [first, *others, knobs["refinement_depth"]]
    given = f"depths {numbers[:-1]} and refinement_depth {numbers[-1]}"
    if any(number * depth % first for number in numbers):
        step = first // math.gcd(*numbers)
        kept = f"keep their proportions where depth is a multiple of {step}"
        raise BadSize("depth", f"{given} {kept}, not at {depth}")
    *depths, refinement_depth = (number * depth // first for number in numbers)
    if (most := max(*depths, refinement_depth)) > DEEPEST:
        become = f"become up to {most} at depth {depth}"
        raise BadSize("depth", f"{given} {become}; at most {DEEPEST} fit")
    return {**values, "depths": tuple(depths), "refinement_depth": refinement_depth}


def size(knobs: Knobs) -> Size:
    return Size(knobs["embed_dim"], knobs["depths"][0])


def multiple_px(_knobs: Knobs) -> int:
    return MULTIPLE_PX


def _block(c: int, heads: int, hidden: int, bias: bool, count_norm: CountNorm) -> Amount:
    """Cost of MDTA and GDFN with their norms, per token of the block's own level.

    What is kept: the inputs of both branches, before and after the norm, and the output of each
    operation in them.
    """
    pointwise = 3 * c * c + c * c + 2 * c * hidden + hidden * c
    depthwise = 9 * (3 * c + 2 * hidden)
    biases = (3 * c + 3 * c + c + 2 * hidden + 2 * hidden + c) * bias
    parameters = 2 * count_norm(c) + heads + pointwise + depthwise + biases
    attention = 2 * c * c // heads  # scores between channels of a head, and their product with v
    return Amount(parameters, pointwise + depthwise + attention, 13 * c + 6 * hidden)


def blocks(knobs: Knobs, count_norm: CountNorm) -> Iterator[Blocks]:
    for c, heads, number, tokens in levels(knobs):
        hidden = hidden_channels(c, knobs["mlp_ratio"])
        each = _block(c, heads, hidden, knobs["bias"], count_norm)
        yield Blocks(each.at(tokens), float(c * tokens), number)


def around(
    knobs: Knobs, _count_embed: CountNorm, _count_end: CountNorm, _scale: int
) -> Iterator[Amount]:
    """Yield the embedding, the steps down and up with their channel reductions, and the output."""
    c, bias = knobs["embed_dim"], knobs["bias"]
    yield convolution(3, c, bias=False)  # whatever `bias` says, as published
    for i in range(NUM_LEVELS - 1):
        wide, tokens = 2**i * c, Fraction(1, 4**i)
        yield convolution(wide, wide // 2, bias=False).at(tokens)
        yield convolution(2 * wide, 4 * wide, bias=False).at(tokens / 4)
        if i:
            yield convolution(2 * wide, wide, taps=1, bias=bias).at(tokens)
    yield convolution(2 * c, 3, bias=bias)


def has_keys(keys: Collection[str]) -> bool:
    return any("encoder_level1.0.attn.temperature" in key for key in keys)


SHAPE = Shape(
    axes={
        "width": "`embed_dim`, the channels of the first of four levels; each level down has twice "
        "as many",
        "depth": "the number of blocks on the first level; the other levels and the refinement "
        "keep the preset's proportions",
    },
    small={
        "embed_dim": 8,
        "depths": (2, 1, 1, 1),
        "num_heads": (1, 2, 2, 4),
        "refinement_depth": 1,
    },
    networks={"same size": ("jpeg_10", {})},
    first_block="encoder_level1.0",
    misfit=misfit,
    refusal=refusal,
    sized=sized,
    size=size,
    multiple_px=multiple_px,
    blocks=blocks,
    around=around,
    has_keys=has_keys,
    # Each GDFN multiplies two halves of its input: without a norm features are squared again and
    # again, and at 0.2 they overflow on the way up.
    noise=0.1,
    deepest=Fraction(1, MULTIPLE_PX**2),
    has_ends=False,
    published_norms={frozenset({"weight"}): "bias_free_layer_norm"},
)
