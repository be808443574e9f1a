"""The factor that a norm gives to its branch: sigma of i-LN, the weights of LayerScale, ReZero."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from trainers.norms.base import Normed
from trainers.probes.base import Look, Mean, Observation, Probe
from trainers.probes.places import blocks_of


class Scale(Probe):
    """`Normed.scale` of each branch of each residual block.

    scale/group_<i>/block_<j>/branch_<k>   mean of |scale| over images and channels

    Arrays under the same names without `scale/`: the mean over images, signed; (C,) where channels
    have their own (LayerScale), else (1,). Branches are counted from 0: attention, then the MLP.
    """

    def __init__(self, network: nn.Module) -> None:
        self._norms = {
            f"{block.name}/branch_{number}": norm
            for block in blocks_of(network)
            for number, norm in enumerate(block.norms)
        }
        self._sizes = {name: Mean() for name in self._norms}
        self._scales = {name: Mean() for name in self._norms}
        self._has_scale: dict[str, bool] = {}

    def looks(self) -> Iterator[tuple[nn.Module, Look]]:
        for name, norm in self._norms.items():
            yield norm, partial(self._look, name)

    def _look(self, name: str, normed: Normed) -> None:
        self._has_scale[name] = normed.scale is not None
        if normed.scale is not None:
            scale, images = normed.scale.double(), len(normed.tokens)
            self._sizes[name].add(scale.abs().mean(), images)
            self._scales[name].add(scale.mean(dim=(0, 1)), images)

    def observation(self) -> Observation:
        found = [name for name, has_scale in self._has_scale.items() if has_scale]
        if not found:
            return Observation(undefined={"scale": "no norm of a block gives its branch a scale"})
        return Observation(
            {f"scale/{name}": self._sizes[name].whole().item() for name in found},
            {name: self._scales[name].whole().numpy() for name in found},
        )
