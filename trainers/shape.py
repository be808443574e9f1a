"""The pure side of a backbone: sizes, what does not fit, cost. Planning reads it without torch.

Axis letters: c channels, t taps of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from trainers.errors import UserError

Knobs = Mapping[str, Any]
CountNorm = Callable[[int], int]  # channels to the parameters of a norm over them


class BadSize(UserError, ValueError):
    """A width or depth that these knobs cannot take; `axis` says which of the two."""

    def __init__(self, axis: str, message: str) -> None:
        self.axis = axis
        super().__init__(message)


class Size(NamedTuple):
    """A network's size on the axes of a sweep."""

    width: int
    depth: int


class Amount(NamedTuple):
    """What a part of the network costs.

    `macs` are multiply-adds, `kept` the floats kept for the backward pass, both per token (pixel)
    of the padded input. A part at a quarter of the tokens costs a quarter per token.
    """

    parameters: int
    macs: int | Fraction
    kept: float

    def plus(self, *others: Amount) -> Amount:
        parts = (self, *others)
        return Amount(
            sum(p.parameters for p in parts),
            sum(p.macs for p in parts),
            sum(p.kept for p in parts),
        )

    def times(self, number: int) -> Amount:
        return Amount(self.parameters * number, self.macs * number, self.kept * number)

    def at(self, tokens: Fraction) -> Amount:
        """Of a part that has `tokens` of its own for each token of the input."""
        return Amount(self.parameters, self.macs * tokens, float(self.kept * tokens))


class Blocks(NamedTuple):
    """Residual blocks that cost the same: how many, and the floats that enter each, per token.

    What enters is all that activation checkpointing keeps of a block.
    """

    each: Amount
    entering: float
    number: int


def convolution(
    channels_in: int, channels_out: int, *, taps: int = 9, side: int = 1, bias: bool = True
) -> Amount:
    """A convolution whose output has `side` times the side of the input image."""
    weights = taps * channels_in * channels_out
    return Amount(weights + channels_out * bias, weights * side**2, channels_out * side**2)


@dataclass(frozen=True)
class Shape:
    """What `<name>_shape.py`, without torch, says of the backbone in `<name>.py`: its SHAPE.

    Its functions take all knobs of the backbone's catalogue line, checked one by one. They promise:

    - `misfit` says why no network can have these knobs, and what would fit; None where one can.
      Knobs without a misfit build, and have as many parameters as `blocks` and `around` say.
    - `refusal` says why the network cannot do a task (its name and knobs); None where it can.
    - `sized` puts a width and a depth into the knobs, None leaving one as it is, and raises BadSize
      where the knobs have no such size. `size` reads both back.
    - `multiple_px` is what the network pads the sides of its input to a multiple of.
    - `blocks` are the residual blocks, which activation checkpointing covers; `around` is the rest.
      They are given what counts the parameters of a norm: in the blocks, after the patch embedding,
      before the head; and the task's scale.
    - `has_keys` recognises a state dict of this backbone, ours or published, and of no other one.
    """

    axes: Mapping[str, str]  # what `width` and `depth` are of this backbone, for the docs
    small: Knobs  # of a network to test: small, without drop path
    networks: Mapping[str, tuple[str, Knobs]]  # each head: a task for it, knobs beside `small`
    first_block: str  # in the network's modules: from tokens and the image's size to tokens
    misfit: Callable[[Knobs], str | None]
    refusal: Callable[[str, Knobs], str | None]
    sized: Callable[[Knobs, int | None, int | None], Knobs]
    size: Callable[[Knobs], Size]
    multiple_px: Callable[[Knobs], int]
    blocks: Callable[[Knobs, CountNorm], Iterable[Blocks]]
    around: Callable[[Knobs, CountNorm, CountNorm, int], Iterable[Amount]]
    has_keys: Callable[[Collection[str]], bool]
    noise: float = 0.2  # std of what conformance tests add to every weight
    has_ends: bool = True  # whether norms stand after the patch embedding and before the head
    # The norm of a published file whose norms have tensors of these names, where they are others
    # than LayerNorm's or i-LN's.
    published_norms: Mapping[frozenset[str], str] = field(default_factory=dict)
