"""The promises of a norm to a residual block.

Axis letters: B image, N token (= H * W), C channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


_recomputing = ContextVar("recomputing", default=False)


@contextmanager
def recomputing() -> Iterator[None]:
    """Mark a forward pass as a repetition for the backward pass (activation checkpointing)."""
    token = _recomputing.set(True)
    try:
        yield
    finally:
        _recomputing.reset(token)


def is_recomputing() -> bool:
    """Whether this forward pass is a repetition: running statistics have seen its tokens before."""
    return not torch.compiler.is_compiling() and _recomputing.get()


class Normed(NamedTuple):
    """Normalised tokens and, where the variant has one, the factor its branch is multiplied by."""

    tokens: Float[Tensor, "B N C"]
    # (B, 1, 1) of i-LN, (1, 1, C) of LayerScale, (1, 1, 1) of ReZero. It keeps its gradient.
    scale: Float[Tensor, "#B 1 #C"] | None = None

    def restore(self, branch: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return branch if self.scale is None else branch * self.scale


def widened(x: Tensor, weight: Tensor) -> Tensor:
    """`x` in the dtype of `weight` where that is wider.

    Autocast leaves weights in float32, so a norm takes its statistics in float32 as well.
    """
    return x.to(torch.promote_types(x.dtype, weight.dtype))


def affine_of(dim: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias (C,) per channel, which change nothing yet."""
    return nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))


class Norm(nn.Module, ABC):
    """A norm over tokens (B, N, C), built as `Class(dim, **knobs)`.

    A norm keeps nothing between two calls: whatever a block needs later travels in the Normed that
    it returns. One that cannot promise this says so in the catalogue (`breaks`), and so does one
    through which images influence one another.
    """

    # If True, another size of micro-batch makes another trial, and a micro-batch is never halved.
    statistics_of_micro_batch: ClassVar[bool] = False

    @abstractmethod
    def forward(self, x: Float[Tensor, "B N C"]) -> Normed: ...
