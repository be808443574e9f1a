"""The feature trace inside groups: at the output of every residual block."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainers.probes.base import Largest, Look, Mean, Observation, Probe, largest_abs
from trainers.probes.places import blocks_of

if TYPE_CHECKING:
    from jaxtyping import Float


class Blocks(Probe):
    """The output (B, N, C) of each residual block.

    block/mean_square/group_<i>/block_<j>   mean of x^2 over images, tokens and channels
    block/max_abs/group_<i>/block_<j>       max of |x|
    """

    def __init__(self, network: nn.Module) -> None:
        self._blocks = blocks_of(network)
        self._mean_squares = [Mean() for _ in self._blocks]
        self._largest = [Largest() for _ in self._blocks]

    def looks(self) -> Iterator[tuple[nn.Module, Look]]:
        for number, block in enumerate(self._blocks):
            yield block.module, partial(self._look, number)

    def _look(self, number: int, x: Float[Tensor, "B N C"]) -> None:
        self._mean_squares[number].add(x.double().square().mean(), len(x))
        self._largest[number].add(largest_abs(x))

    def observation(self) -> Observation:
        if not self._blocks:
            return Observation(undefined={"block/mean_square": "the groups hold no norms"})
        scalars = {}
        for block, mean, largest in zip(
            self._blocks, self._mean_squares, self._largest, strict=True
        ):
            scalars[f"block/mean_square/{block.name}"] = mean.whole().item()
            scalars[f"block/max_abs/{block.name}"] = largest.whole()
        return Observation(scalars)
