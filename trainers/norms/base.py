"""What a norm promises to a residual block.

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
    """Say that a forward pass is the second of the same tokens, run for the backward (activation checkpointing)."""
    token = _recomputing.set(True)
    try:
        yield
    finally:
        _recomputing.reset(token)


def is_recomputing() -> bool:
    """Whether this forward pass is a repetition, and running statistics have seen these tokens already."""
    return not torch.compiler.is_compiling() and _recomputing.get()


class Normed(NamedTuple):
    """Normalised tokens and, where the variant has one, the factor its branch is multiplied by."""

    tokens: Float[Tensor, "B N C"]
    scale: Float[Tensor, "#B 1 #C"] | None = (
        None  # i-LN (B,1,1), LayerScale (1,1,C), ReZero (1,1,1); keeps its gradient
    )

    def restore(self, branch: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return branch if self.scale is None else branch * self.scale


class Norm(nn.Module, ABC):
    """A norm over tokens (B, N, C), built as `Class(dim, **knobs)`.

    It keeps nothing between two calls: what a block needs later travels in the Normed it returns. Whoever cannot promise
    that says so in the catalogue (`breaks`), as it does of images that influence one another.
    """

    statistics_of_micro_batch: ClassVar[bool] = (
        False  # True: another micro-batch is another trial, and is never halved
    )

    @abstractmethod
    def forward(self, x: Float[Tensor, "B N C"]) -> Normed: ...
