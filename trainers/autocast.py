"""Mixed precision: a network whose forward pass runs under torch's autocast."""

from __future__ import annotations

import torch
from torch import Tensor, nn

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Network(nn.Module):
    """A network under autocast to `dtype`, if one is given.

    It enters autocast itself because DeepSpeed's engine, which it is given to, turns off any that
    surrounds the engine.
    """

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.network = network
        self._device = device
        self._dtype = dtype

    @property
    def groups(self) -> nn.ModuleList:
        """The residual groups, whose outputs the probes look at."""
        groups = self.network.groups
        assert isinstance(groups, nn.ModuleList)
        return groups

    def forward(self, *inputs: Tensor | None) -> Tensor:
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
            output: Tensor = self.network(*inputs)
        return output
