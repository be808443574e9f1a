"""A trained network at a lower precision: weights as integers, or weights and features in half.

It is emulated in float32, by the same formulas on every device, so that a figure does not depend on
the machine (docs/decisions/0008-what-fp16-means.md). Protocol section 2.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from trainers.norms.base import Norm, Normed
from trainers.rounding import as_kernel, emulated

FP16_LITERAL = "fp16_literal"
HALF: Mapping[str, torch.dtype] = MappingProxyType(
    {"bf16": torch.bfloat16, "fp16": torch.float16, FP16_LITERAL: torch.float16}
)
# Raised when what half precision rounds changes. Results without one depended on the device.
HALF_REVISION = 2
BITS: Mapping[str, int] = MappingProxyType({"int8": 8, "int4": 4})
PRECISIONS = ("fp32", *HALF, *BITS)


def at_precision(model: nn.Module, precision: str, *, per_channel: bool = False) -> nn.Module:
    """A copy of `model`, in evaluation mode, that computes at `precision`, one of PRECISIONS.

    `int8` and `int4` round the weights of Linear and Conv2d, per tensor or per output channel;
    norms, biases and position tables stay. `bf16` and `fp16` round all weights and the output of
    every layer; norms and attention compute in float32 and round what they return. `fp16_literal`
    computes norms and attention as published and rounds the result of every operation.
    """
    lowered = copy.deepcopy(model).eval()
    if precision in BITS:
        for module in lowered.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.data = quantized(
                    module.weight.data, BITS[precision], per_channel=per_channel
                )
        return lowered
    return (
        Half(lowered, HALF[precision], literal=precision == FP16_LITERAL)
        if precision in HALF
        else lowered
    )


def quantized(weight: Tensor, bits: int, *, per_channel: bool) -> Tensor:
    """`weight` rounded to the nearest of 2^bits - 1 values, symmetric about 0.

    They are max|w| / (2^(bits-1) - 1) apart. The maximum is over the tensor, or over each slice of
    its first axis, the output channels.
    """
    rest = tuple(range(1, weight.ndim)) if per_channel else tuple(range(weight.ndim))
    step = weight.abs().amax(rest, keepdim=True) / (2 ** (bits - 1) - 1)
    # Where all weights are zero the step is too, and the quotient is not a number.
    return torch.where(step > 0, (weight / step).round() * step, weight)


class Half(nn.Module):
    """`model` in float32, with all weights and all results rounded to `dtype`.

    It is for evaluation: it has no gradient. A norm, ours or a user's, is one kernel unless
    `literal`.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype, *, literal: bool) -> None:
        super().__init__()
        self._model = model
        self._dtype = dtype
        self._literal = literal
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype).to(tensor.dtype)
        for module in model.modules():
            if isinstance(module, Norm):
                module.forward = partial(_normed, module.forward)  # type: ignore[method-assign]

    def forward(self, image: Tensor) -> Tensor:
        with emulated(self._dtype, literal=self._literal):
            output: Tensor = self._model(image.to(self._dtype).to(image.dtype))
        return output


def _normed(forward: Callable[[Tensor], Normed], x: Tensor) -> Normed:
    """`forward` of a norm as one kernel, of whose results rounding makes a plain tuple."""
    return Normed(*as_kernel(forward, x))
