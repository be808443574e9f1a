"""The shared part of the shapes of SwinIR, HAT and DRCT: groups of window attention and the rest.

This is the pure side of `network.py` and `attention.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

from trainers.shape import Amount, BadSize, CountNorm, Knobs, Shape, Size, convolution, together

NUM_FEATURES = 64  # channels of the `pixelshuffle` head in all published configurations
KEPT_SCORES = 2  # score maps that attention keeps for its backward pass

SMALL: Knobs = {
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 2),
    "window_size": 4,
    "drop_path": 0.0,
}
AXES = {
    "width": "`embed_dim`",
    "depth": "the number of groups; blocks and heads of a group stay the preset's",
}


def refusal(_task: str, _knobs_of_task: Knobs) -> None:
    """Refuse no task: there is a head for every scale."""


def sized(knobs: Knobs, width: int | None, depth: int | None) -> Knobs:
    """Put in `width`, and `depth` groups like the first. Raises BadSize where groups differ."""
    values = dict(knobs)
    if width is not None:
        values["embed_dim"] = width
    if depth is not None:
        for knob in ("depths", "num_heads"):
            groups = knobs[knob]
            if len(set(groups)) > 1:
                differ = f"groups differ in {knob} {list(groups)}"
                raise BadSize("depth", f"{differ}: an axis `depth` needs them alike")
            values[knob] = groups[:1] * depth
    return values


def size(knobs: Knobs) -> Size:
    return Size(knobs["embed_dim"], len(knobs["depths"]))


def multiple_px(knobs: Knobs) -> int:
    """The side of a window: the network pads its input to whole ones."""
    window: int = knobs["window_size"]
    return window


def misfit(knobs: Knobs) -> str | None:
    """Check heads, MLP and windows, which are alike in the three backbones."""
    return together(_misfits(knobs))


def _misfits(knobs: Knobs) -> Iterator[str | None]:
    width, depths, heads = knobs["embed_dim"], knobs["depths"], knobs["num_heads"]
    if len(depths) != len(heads):
        yield f"depths names {len(depths)} groups, num_heads {len(heads)}"
    for count in dict.fromkeys(heads):
        yield undivided(width, count)
    ratio = knobs["mlp_ratio"]
    if int(width * ratio) < 1:
        yield f"mlp_ratio {ratio:g} leaves an MLP of embed_dim {width} without channels"
    window = knobs["window_size"]
    if 0 < knobs["img_size"] < window:  # the published constructors would shrink the window to it
        yield (
            f"img_size {knobs['img_size']} is smaller than a window of {window}; "
            f"0 (decide by each input) or at least {window} would fit"
        )


def undivided(width: int, heads: int) -> str | None:
    """Say why `heads` cannot share `width` channels evenly, or return None if they can."""
    if width % heads == 0:
        return None
    below, above = width - width % heads, width - width % heads + heads
    fits = f"{below} or {above}" if below else str(above)
    return f"{heads} heads do not divide embed_dim {width}; {fits} would fit"


def groups(knobs: Knobs) -> Iterable[tuple[int, int, int]]:
    """Yield the blocks and heads of each kind of group, and the number of groups of that kind."""
    kinds = Counter(zip(knobs["depths"], knobs["num_heads"], strict=True))
    return ((depth, heads, times) for (depth, heads), times in kinds.items())


def block(
    knobs: Knobs, count_norm: CountNorm, c: int, heads: int, *, ratio: float, larger: int = 0
) -> Amount:
    """Cost of window attention and MLP with their norms.

    `larger` is the side of the windows that keys come from, where it is not `window_size`.
    """
    window, hidden = knobs["window_size"], int(c * ratio)
    keys = larger or window
    table = (window + keys - 1) ** 2 * heads
    linear = 4 * c * c + 2 * c * hidden
    biases = 3 * c * knobs["qkv_bias"] + c + hidden + c
    parameters = 2 * count_norm(c) + table + linear + biases
    kept = c * (8 + 2 * ratio + 2 * (keys**2 - window**2) / window**2)
    return Amount(parameters, linear + 2 * keys**2 * c, kept + KEPT_SCORES * heads * keys**2)


def around(
    knobs: Knobs,
    count_embed: CountNorm,
    count_end: CountNorm,
    scale: int,
    *,
    convolutions: int | None = None,
) -> list[Amount]:
    """Cost of embedding, end and head, and of the `convolutions` that end groups: one each."""
    c = knobs["embed_dim"]
    ends = Amount(count_embed(c) + count_end(c), 0, 2 * c)
    number = len(knobs["depths"]) if convolutions is None else convolutions
    body = convolution(c, c).times(number + 1)
    head = _head(c, scale, knobs.get("upsampler", "pixelshuffle"))
    return [convolution(3, c), body, ends, *head]


def _head(c: int, scale: int, upsampler: str) -> list[Amount]:
    if scale == 1:
        return [convolution(c, 3)]
    if upsampler == "pixelshuffledirect":
        return [convolution(c, 3 * scale**2)]
    convolutions, side = [convolution(c, NUM_FEATURES)], 1
    for factor in [3] if scale == 3 else [2] * int(math.log2(scale)):
        convolutions.append(convolution(NUM_FEATURES, NUM_FEATURES * factor**2, side=side))
        side *= factor
    return [*convolutions, convolution(NUM_FEATURES, 3, side=side)]


# A Shape of a network of windows. Left to give: `small`, `first_block`, `blocks`, `has_keys`, and
# whatever else is not as here.
windowed = partial(
    Shape,
    axes=AXES,
    networks={"pixelshuffle": ("sr_x2", {}), "same size": ("jpeg_10", {})},
    misfit=misfit,
    refusal=refusal,
    sized=sized,
    size=size,
    multiple_px=multiple_px,
    around=around,
)
