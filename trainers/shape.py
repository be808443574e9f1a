"""The pure side of a backbone: sizes, misfits and cost. Planning reads it without torch.

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
    """The cost of a part of the network.

    `macs` are multiply-adds, `kept` the floats kept for the backward pass, both per token (pixel)
    of the padded input. So a part that runs on a quarter of the tokens costs a quarter per token.
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
        """The cost of this part when it runs on `tokens` tokens per token of the input."""
        return Amount(self.parameters, self.macs * tokens, float(self.kept * tokens))


class Blocks(NamedTuple):
    """Residual blocks that cost the same: how many, and the floats that enter each, per token.

    Activation checkpointing keeps only what enters a block.
    """

    each: Amount
    entering: float
    number: int


def together(reasons: Iterable[str | None]) -> str | None:
    """Independent reasons why knobs do not fit, each once, as one; None if there is none."""
    return "; ".join(dict.fromkeys(filter(None, reasons))) or None


def convolution(
    channels_in: int, channels_out: int, *, taps: int = 9, side: int = 1, bias: bool = True
) -> Amount:
    """The cost of a convolution whose output has `side` times the input image's side."""
    weights = taps * channels_in * channels_out
    return Amount(weights + channels_out * bias, weights * side**2, channels_out * side**2)


@dataclass(frozen=True)
class Shape:
    """The pure side of the backbone in `<name>.py`: SHAPE in `<name>_shape.py`, without torch.

    Its functions take all knobs of the backbone's catalogue line, checked one by one. They promise:

    - `misfit` says everything that keeps a network from having these knobs, and what would fit;
      None if one can. Knobs without a misfit build a network, with as many parameters as `blocks`
      and `around` say.
    - `refusal` says why the network cannot do a task (its name and knobs); None if it can.
    - `sized` puts a width and a depth into the knobs, of which None leaves one as it is. It raises
      BadSize where the knobs cannot have that size. `size` reads both back.
    - `multiple_px` is the number of pixels to a multiple of which the sides of an input are padded.
    - `blocks` are the residual blocks, which activation checkpointing covers; `around` is the rest.
      Both are given functions that count the parameters of a norm: `blocks` of one in the blocks,
      `around` of the one after the patch embedding and of the one before the head. `around` is also
      given the task's scale.
    - `has_keys` recognises a state dict of this backbone, ours or published, and of no other one.
    """

    axes: Mapping[str, str]  # what `width` and `depth` mean for this backbone, for the docs
    small: Knobs  # for tests: of a small network without drop path
    networks: Mapping[str, tuple[str, Knobs]]  # by head: a task for it, knobs on top of `small`
    first_block: str  # name of the module: from tokens and the image's size to tokens
    misfit: Callable[[Knobs], str | None]
    refusal: Callable[[str, Knobs], str | None]
    sized: Callable[[Knobs, int | None, int | None], Knobs]
    size: Callable[[Knobs], Size]
    multiple_px: Callable[[Knobs], int]
    blocks: Callable[[Knobs, CountNorm], Iterable[Blocks]]
    around: Callable[[Knobs, CountNorm, CountNorm, int], Iterable[Amount]]
    has_keys: Callable[[Collection[str]], bool]
    noise: float = 0.2  # std of the noise that conformance tests add to every weight
    deepest: Fraction = Fraction(1)  # tokens where it has fewest, for each of the padded input
    has_ends: bool = True  # whether there are norms after the patch embedding and before the head
    # By the names of a norm's tensors in a published file, the norm that they mean, unless that is
    # LayerNorm or i-LN.
    published_norms: Mapping[frozenset[str], str] = field(default_factory=dict)

    def tokens(self, knobs: Knobs, side_px: int) -> int:
        """The tokens of a square input, whose sides the network pads."""
        return (side_px + -side_px % self.multiple_px(knobs)) ** 2
