"""How much of fp16's range activations take up, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
from torch import Tensor, nn

from trainers.norms.base import Norm, Normed
from trainers.probes.base import Largest, Look, Observation, Probe, groups_of, largest_abs
from trainers.probes.places import bare, blocks_of

LIMIT = 65_504.0  # the largest finite number of IEEE 754's binary16


class Fp16Range(Probe):
    """max |output| / 65504 of every layer; from 1 on the layer's output is infinite in fp16.

    fp16_range/largest_share   the largest of all layers

    An array (1,) per layer, under the name that its weights have, says which layer that is. Layers
    are Linear and Conv2d (attention's projections are such), norms with the scale that they give to
    their branch, and the residual blocks and groups, whose sums grow. An output that is not finite
    is beyond any range: its share is inf.
    """

    def __init__(self, network: nn.Module) -> None:
        sums = {id(block.module) for block in blocks_of(network)}
        sums |= {id(group) for group in groups_of(network)}
        self._layers = {
            name: module
            for name, module in bare(network).named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d | Norm) or id(module) in sums
        }
        self._largest = {name: Largest() for name in self._layers}

    def looks(self) -> Iterator[tuple[nn.Module, Look]]:
        for name, module in self._layers.items():
            yield module, partial(self._look, name)

    def _look(self, name: str, output: Tensor | Normed) -> None:
        for part in output if isinstance(output, Normed) else (output,):
            if part is not None:
                self._largest[name].add(largest_abs(part))

    def observation(self) -> Observation:
        shares = {
            name: _share(largest.whole()) for name, largest in self._largest.items() if largest.seen
        }
        if not shares:
            return Observation(
                undefined={"fp16_range/largest_share": "no layer of a known kind ran"}
            )
        return Observation(
            {"fp16_range/largest_share": max(shares.values())},
            {name: np.array([share]) for name, share in shares.items()},
        )


def _share(largest: float) -> float:
    return largest / LIMIT if math.isfinite(largest) else math.inf
