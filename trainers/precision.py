"""A trained network at a lower precision: weights rounded to integers, or weights and features to half precision.

Emulated in float32 on every device, so that a figure does not depend on the machine: the kernels of half precision sum in
float32 and round what they store, which is what is done here after every operation. Protocol section 2.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

HALF: Mapping[str, torch.dtype] = MappingProxyType({"bf16": torch.bfloat16, "fp16": torch.float16})
BITS: Mapping[str, int] = MappingProxyType({"int8": 8, "int4": 4})
PRECISIONS = ("fp32", *HALF, *BITS)


def at_precision(model: nn.Module, precision: str, *, per_channel: bool = False) -> nn.Module:
    """A copy of `model`, in evaluation mode, that computes at `precision`, one of PRECISIONS.

    `int8`, `int4`: the weights of Linear and Conv2d, per tensor or per output channel; norms, biases and position tables stay.
    `bf16`, `fp16`: all weights, and the output of every operation.
    """
    lowered = copy.deepcopy(model).eval()
    if precision in BITS:
        for module in lowered.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.data = quantized(module.weight.data, BITS[precision], per_channel=per_channel)
        return lowered
    return Half(lowered, HALF[precision]) if precision in HALF else lowered


def quantized(weight: Tensor, bits: int, *, per_channel: bool) -> Tensor:
    """`weight` rounded to the nearest of 2^bits - 1 steps, symmetric about 0: step max|w| / (2^(bits-1) - 1).

    The maximum is over the tensor, or over each slice of its first axis, the output channels.
    """
    rest = tuple(range(1, weight.ndim)) if per_channel else tuple(range(weight.ndim))
    step = weight.abs().amax(rest, keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.where(step > 0, (weight / step).round() * step, weight)


class Half(nn.Module):
    """`model`, in float32, with all weights and the output of every operation rounded to `dtype`."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._model = model
        self._dtype = dtype
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype).to(tensor.dtype)

    def forward(self, image: Tensor) -> Tensor:
        with RoundedOutputs(self._dtype):
            output: Tensor = self._model(image.to(self._dtype).to(image.dtype))
        return output


class RoundedOutputs(TorchDispatchMode):
    """Rounds what every operation writes; views are of what has been rounded already."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        if isinstance(result, tuple | list):
            aliases = [r.alias_info for r in returns] if len(returns) > 1 else [returns[0].alias_info] * len(result)
            return type(result)(map(self._rounded, result, aliases))
        return self._rounded(result, returns[0].alias_info) if returns else result

    def _rounded(self, value: Any, alias: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if alias is None:
            return value.to(self._dtype).to(value.dtype)
        return value.copy_(value.to(self._dtype)) if alias.is_write else value
