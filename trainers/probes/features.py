"""The feature trace and the channel entropy (protocol section 2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainers.probes.base import Largest, Look, Mean, Observation, Probe, groups_of, largest_abs

if TYPE_CHECKING:
    from jaxtyping import Float


def channel_shares(x: Float[Tensor, "B N C"]) -> Float[Tensor, "B C"]:
    """The share of each channel in its image's sum of squares; NaN where all of that is 0."""
    energy = x.double().square().sum(dim=1)
    return energy / energy.sum(dim=1, keepdim=True)


def channel_entropy(x: Float[Tensor, "B N C"]) -> float:
    """Mean over images of H = -sum_c p_c ln p_c, in nats; p_c are the shares of its channels."""
    entropy: float = torch.special.entr(channel_shares(x)).sum(dim=1).mean().item()
    return entropy


class Features(Probe):
    """The output (B, N, C) of each residual group.

    feature/mean_square/group_<i>   mean of x^2 over images, tokens and channels
    feature/max_abs/group_<i>       max of |x|
    feature/entropy                 channel entropy at the last group, in nats
    feature/entropy_normalised      the same over ln C; left out for a single channel
    """

    def __init__(self, network: nn.Module) -> None:
        self._groups = groups_of(network)
        self._mean_squares = [Mean() for _ in self._groups]
        self._largest = [Largest() for _ in self._groups]
        self._entropy = Mean()
        self._normalised = Mean()
        self._num_channels = 0

    def looks(self) -> Iterator[tuple[nn.Module, Look]]:
        for number, group in enumerate(self._groups):
            yield group, partial(self._look, number)

    def _look(self, number: int, x: Float[Tensor, "B N C"]) -> None:
        self._mean_squares[number].add(x.double().square().mean(), len(x))
        self._largest[number].add(largest_abs(x))
        if number == len(self._groups) - 1:
            self._num_channels = x.shape[2]
            entropy = channel_entropy(x)
            self._entropy.add(entropy, len(x))
            # ln 1 is 0; for a single channel the value is left out below.
            self._normalised.add(entropy / math.log(max(self._num_channels, 2)), len(x))

    def observation(self) -> Observation:
        scalars = {}
        mean_squares = tuple(mean.whole().item() for mean in self._mean_squares)
        for number, mean_square in enumerate(mean_squares):
            scalars[f"feature/mean_square/group_{number}"] = mean_square
            scalars[f"feature/max_abs/group_{number}"] = self._largest[number].whole()
        scalars["feature/entropy"] = self._entropy.whole().item()
        if self._num_channels > 1:
            scalars["feature/entropy_normalised"] = self._normalised.whole().item()
        return Observation(scalars, mean_squares=mean_squares)
