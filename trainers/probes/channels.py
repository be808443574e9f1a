"""How features' energy is spread over channels, which channel entropy sums up in one number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainers.probes.base import Look, Mean, Observation, Probe, groups_of

if TYPE_CHECKING:
    from jaxtyping import Float


class Channels(Probe):
    """Arrays `group_<i>` (C,): each channel's mean of x^2 over images and tokens.

    It is taken at the output of each residual group.
    """

    def __init__(self, network: nn.Module) -> None:
        self._groups = groups_of(network)
        self._mean_squares = [Mean() for _ in self._groups]

    def looks(self) -> Iterator[tuple[nn.Module, Look]]:
        for number, group in enumerate(self._groups):
            yield group, partial(self._look, number)

    def _look(self, number: int, x: Float[Tensor, "B N C"]) -> None:
        self._mean_squares[number].add(x.double().square().mean(dim=(0, 1)), len(x))

    def observation(self) -> Observation:
        means = enumerate(self._mean_squares)
        return Observation(
            arrays={f"group_{number}": mean.whole().numpy() for number, mean in means}
        )
