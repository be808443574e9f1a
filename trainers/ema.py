"""The exponential moving average of the weights, which is what evaluations score."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """A copy of `model` that follows it: `decay * average + (1 - decay) * weight` after each step.

    `buffers` says whether running statistics are `copied` from the model, `averaged` as parameters
    are, or left `untouched`.
    """

    def __init__(self, model: nn.Module, decay: float, buffers: str = "copied") -> None:
        self.network = copy.deepcopy(model).eval()
        self._decay = decay
        self._buffers = buffers
        self._parameters = {name for name, _ in model.named_parameters()}

    def to(self, device: torch.device) -> None:
        self.network.to(device)

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor]) -> None:
        """Follow the model after a step; `state` is its whole state then."""
        for name, average in self.network.state_dict().items():
            if name in self._parameters or self._buffers == "averaged":
                average.lerp_(state[name], 1 - self._decay)
            elif self._buffers == "copied":
                average.copy_(state[name])

    def state(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(state)
