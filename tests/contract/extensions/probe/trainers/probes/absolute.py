"""The mean absolute feature."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from trainers.probes.base import Look, Mean, Observation, Probe, groups_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


class Absolute(Probe):
    """`absolute/group_<i>`: mean of |x| over images, tokens and channels at a group's output."""

    def __init__(self, network: nn.Module) -> None:
        self._groups = groups_of(network)
        self._means = [Mean() for _ in self._groups]

    def looks(self) -> Iterator[tuple[nn.Module, Look]]:
        for number, group in enumerate(self._groups):
            yield group, partial(self._look, number)

    def _look(self, number: int, x: Float[Tensor, "B N C"]) -> None:
        self._means[number].add(x.double().abs().mean(), len(x))

    def observation(self) -> Observation:
        return Observation(
            {f"absolute/group_{i}": mean.whole().item() for i, mean in enumerate(self._means)}
        )
