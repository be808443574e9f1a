"""Position bias tables as maps (Lee et al., arXiv:2504.06629, Fig. 12), and how rough they are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.backbones.attention import HasPositionMaps
from trainers.probes.base import Array, Before, Look, Observation, Probe, groups_of


class PositionBias(Probe):
    """The position bias tables, as an image of offsets for each head.

    position_bias/roughness/group_<i>/table_<j>   mean over heads of Geary's C of the map
    position_bias/roughness                       mean over all heads of all tables

    Arrays `group_<i>/table_<j>` (heads, S, S) in float32: S = 2w - 1 for a window of side w, and
    HAT's overlapping table un-rolled, S = w + larger - 1; a group's tables in its blocks' order.
    Undefined where a network has no tables, and where a head's map is constant or not finite.
    """

    def __init__(self, network: nn.Module) -> None:
        self._tables = {
            f"group_{number}/table_{k}": module
            for number, group in enumerate(groups_of(network))
            for k, module in enumerate(m for m in group.modules() if isinstance(m, HasPositionMaps))
        }
        self._maps: dict[str, Tensor] = {}

    def looks(self) -> Iterator[tuple[nn.Module, Look]]:
        for name, module in self._tables.items():
            assert isinstance(module, nn.Module)
            yield module, Before(partial(self._look, name))

    def _look(self, name: str, _input: Tensor) -> None:
        if name not in self._maps:  # every part of the images sees the same table
            self._maps[name] = self._tables[name].position_maps().detach().float().cpu()

    def observation(self) -> Observation:
        if not self._tables:
            return Observation(undefined={"position_bias/roughness": "no position bias tables"})
        arrays: dict[str, Array] = {name: maps.numpy() for name, maps in self._maps.items()}
        scalars, undefined, ratios = {}, {}, list[float]()
        for name, maps in arrays.items():
            of_heads = [geary(one.astype(np.float64)) for one in maps]
            defined = [ratio for ratio in of_heads if ratio is not None]
            if len(defined) < len(of_heads):
                why = "the map of a head is constant, or not finite"
                undefined[f"position_bias/roughness/{name}"] = why
                continue
            scalars[f"position_bias/roughness/{name}"] = float(np.mean(defined))
            ratios += defined
        if undefined:
            undefined["position_bias/roughness"] = "that of a table is undefined"
        else:
            scalars["position_bias/roughness"] = float(np.mean(ratios))
        return Observation(scalars, arrays, undefined=undefined)


def geary(image: NDArray[np.float64]) -> float | None:
    """Geary's contiguity ratio of an image (H, W), its pixels' neighbours being above and beside.

    C = (n - 1) sum_ij w_ij (x_i - x_j)^2 / (2 W sum_i (x_i - mean)^2), where w_ij is 1 for
    neighbours and else 0, W is its sum and n the number of pixels. (Geary, The Contiguity Ratio and
    Statistical Mapping, The Incorporated Statistician 5 (3), 1954.)

    The mean over all orders of the pixels is 1, so 1 is as rough as noise; near 0 is smooth, and
    above 1 neighbours differ more than others. Neither a factor nor a constant changes it, and
    softmax does not see a constant either. None for an image that is constant, or not finite.
    """
    if not np.isfinite(image).all() or image.min() == image.max():
        return None
    x = image - image.mean()
    x = x / np.abs(x).max()  # whose square is not out of float64's range
    differences = [np.diff(x, axis=axis) for axis in (0, 1)]
    pairs = sum(d.size for d in differences)  # W counts each of them twice, and so does the sum
    unlike = sum(float(np.square(d).sum()) for d in differences)
    ratio: float = (x.size - 1) * unlike / (2 * pairs * float(np.square(x).sum()))
    return ratio
