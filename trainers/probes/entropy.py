"""Channel entropy by depth: how evenly energy is spread over channels at every group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainers.probes.base import Look, Mean, Observation, Probe, groups_of
from trainers.probes.features import channel_shares

if TYPE_CHECKING:
    from jaxtyping import Float

MEASURES = ("entropy", "entropy_normalised", "top_channel_share")


class Entropy(Probe):
    """The output (B, N, C) of each residual group.

    p_c is the share of channel c in an image's sum of squares; all are means over images.

    feature/entropy/group_<i>              H = -sum_c p_c ln p_c, in nats
    feature/entropy_normalised/group_<i>   H / ln C, in 0..1; left out for a single channel
    feature/top_channel_share/group_<i>    max_c p_c, in 1/C..1

    Undefined where an image's features are all 0, or not finite: it has no shares then.
    """

    def __init__(self, network: nn.Module) -> None:
        self._groups = groups_of(network)
        self._entropies = [Mean() for _ in self._groups]
        self._tops = [Mean() for _ in self._groups]
        self._num_channels = [0] * len(self._groups)

    def looks(self) -> Iterator[tuple[nn.Module, Look]]:
        for number, group in enumerate(self._groups):
            yield group, partial(self._look, number)

    def _look(self, number: int, x: Float[Tensor, "B N C"]) -> None:
        share = channel_shares(x)
        self._num_channels[number] = x.shape[2]
        self._entropies[number].add(torch.special.entr(share).sum(dim=1).mean(), len(x))
        self._tops[number].add(share.amax(dim=1).mean(), len(x))

    def observation(self) -> Observation:
        scalars: dict[str, float] = {}
        undefined: dict[str, str] = {}
        for number, channels in enumerate(self._num_channels):
            entropy, top = self._entropies[number].whole().item(), self._tops[number].whole().item()
            if not math.isfinite(entropy):
                why = f"the features of an image at group {number} are all 0, or not finite"
                undefined |= {f"feature/{name}/group_{number}": why for name in MEASURES}
                continue
            scalars[f"feature/entropy/group_{number}"] = entropy
            if channels > 1:
                scalars[f"feature/entropy_normalised/group_{number}"] = entropy / math.log(channels)
            scalars[f"feature/top_channel_share/group_{number}"] = top
        return Observation(scalars, undefined=undefined)
