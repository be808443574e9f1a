"""Emulated half precision rounds what each mode says, on every path alike. It is compared with
float64 and with torch's own half precision.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.precision import (
    DIM,
    GRAD_MODES,
    SIZE,
    STDS,
    Windowed,
    activations,
    as_rounded,
    emulated,
    modules,
    path_of,
)
from trainers.choice import Choice
from trainers.conformance import Case
from trainers.norms.base import Norm, Normed
from trainers.norms.i_ln import image_norm
from trainers.precision import HALF, at_precision

MODULES = modules()
NORMS = [name for name in MODULES if "attention" not in name]
NATIVE_KERNELS = ("bf16", "fp16")  # the modes in which a norm, or attention, is one kernel
# In units of the last place that a format keeps: half of one for the rounding, and a little for the
# error of float32 near a tie.
HALF_A_UNIT = 0.51


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", MODULES)
def test_bits_depend_neither_on_the_path_nor_on_the_grad_mode(name: str, precision: str) -> None:
    emulated(MODULES[name], precision, activations(30))


@pytest.mark.parametrize("name", ["i_ln", "attention, shifted"])
def test_the_two_paths_compared_differ(name: str) -> None:
    x = activations(1)
    with path_of("cuda"):
        as_on_cuda = MODULES[name](x)
    assert not torch.equal(MODULES[name](x), as_on_cuda)


@pytest.mark.parametrize("norm", ["layer_norm", "i_ln"])
@pytest.mark.parametrize(
    "network", ["swinir, pixelshuffledirect", "hat, pixelshuffle", "drct, same size"]
)
def test_bits_of_a_network_depend_on_neither_either(network: str, norm: str) -> None:
    model = Case(Choice(name=norm), network).build().float()
    image = torch.rand(1, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    outputs = {precision: emulated(model, precision, image) for precision in HALF}
    assert not torch.equal(outputs["fp16"], outputs["fp16_literal"])


@pytest.mark.parametrize("precision", NATIVE_KERNELS)
@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_computes_in_float32_and_rounds_what_it_returns(
    name: str, std: float, precision: str
) -> None:
    norm, x, dtype = MODULES[name].norm, activations(std), HALF[precision]
    wide, x64 = as_rounded(norm, x, dtype)
    for ours, exact in zip(at_precision(norm, precision)(x), wide(x64), strict=True):
        if exact is None:
            assert ours is None
            continue
        unit = (
            torch.finfo(dtype).eps
            * 2.0 ** exact.abs().clamp_min(torch.finfo(dtype).tiny).log2().floor()
        )
        assert (ours - exact).abs().le(HALF_A_UNIT * unit + 1e-6 * exact.abs().max()).all()


@pytest.mark.parametrize("precision", NATIVE_KERNELS)
@pytest.mark.parametrize("kind", ["plain", "shifted", "overlapping"])
def test_attention_is_torchs_in_half_precision_within_rounding(kind: str, precision: str) -> None:
    module, x, dtype = MODULES[f"attention, {kind}"], activations(1), HALF[precision]
    with path_of("cuda"):
        theirs = copy.deepcopy(module).to(dtype)(x.to(dtype)).float()
    ours = at_precision(module, precision)(x)
    assert (ours - theirs).abs().max() <= 2 * torch.finfo(dtype).eps * theirs.abs().max()


@pytest.mark.parametrize("std", STDS)
def test_literally_i_ln_has_the_bits_of_torchs_half_precision(std: float) -> None:
    """So it overflows in fp16 where the variance does: beyond a std of 256."""
    norm, x = copy.deepcopy(MODULES["i_ln"].norm), activations(std)
    ours = at_precision(norm, "fp16_literal")(x)
    norm.half()
    theirs = image_norm(x.half(), norm.weight, norm.bias, norm.eps)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=0, atol=0, equal_nan=True)
    assert ours.scale.isfinite().all() == (std < 256)


def published(module: Windowed, x: Tensor) -> Tensor:
    """The published attention within unshifted windows, in the dtype of `x`."""
    attention, (h, w), side = module.of, SIZE, module.of.size
    windows = (
        x.view(-1, h // side, side, w // side, side, DIM)
        .transpose(2, 3)
        .reshape(-1, side * side, DIM)
    )
    heads = attention.num_heads
    q, k, v = (
        attention.qkv(windows)
        .view(*windows.shape[:2], 3, heads, DIM // heads)
        .permute(2, 0, 3, 1, 4)
    )
    q = q * (DIM // heads) ** -0.5
    scores = q @ k.mT
    at = torch.arange(side * side)
    rows, columns = at // side, at % side
    index = (
        (rows[:, None] - rows + side - 1) * (2 * side - 1) + columns[:, None] - columns + side - 1
    )
    scores = scores + attention.relative_position_bias_table[index].permute(2, 0, 1)
    attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(windows.shape)
    image = attention.proj(attended).view(-1, h // side, w // side, side, side, DIM).transpose(2, 3)
    return image.reshape(x.shape)


@pytest.mark.parametrize("std", [1, 30, 300])
def test_literally_attention_is_the_published_formula_in_torchs_half_precision(std: float) -> None:
    module, x = MODULES["attention, plain"], activations(std)
    ours = at_precision(module, "fp16_literal")(x)
    theirs = published(copy.deepcopy(module).half(), x.half()).float()
    assert torch.equal(ours.isfinite(), theirs.isfinite())
    assert theirs.isfinite().all() == (std < 300)  # scores beyond 65504
    equal = (ours == theirs) | ~theirs.isfinite()
    assert (
        equal.float().mean() > 0.9
    )  # now and then a sum in another order ends on the other side of a half


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("grad_mode", GRAD_MODES)
@pytest.mark.parametrize(
    "operation",
    [
        lambda x, weight, bias: F.linear(x, weight, bias),
        lambda x, weight, bias: F.linear(x.transpose(1, 2), weight, bias),
        lambda x, weight, bias: F.rms_norm(x, bias.shape, bias),
        lambda x, weight, bias: F.layer_norm(x, bias.shape, bias, bias),
        lambda x, weight, bias: F.instance_norm(x.flatten(0, 1).mT, weight=bias, bias=bias),
        lambda x, weight, bias: F.gelu(x),
        lambda x, weight, bias: F.scaled_dot_product_attention(x, x, x),
        lambda x, weight, bias: x.std(-1),
        lambda x, weight, bias: torch.arange(3001).to(torch.float32),
    ],
    ids=[
        "linear",
        "linear of a view",
        "rms_norm",
        "layer_norm",
        "instance_norm",
        "gelu",
        "sdpa",
        "std",
        "to float",
    ],
)
def test_one_call_of_torch_is_rounded_once(operation, grad_mode, precision: str) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(DIM, DIM)

        def forward(self, x: Tensor) -> Tensor:
            return operation(x, self.linear.weight, self.linear.bias)

    torch.manual_seed(0)
    layer, x, dtype = Layer(), activations(1).view(2, *SIZE, DIM), HALF[precision]
    rounded = copy.deepcopy(layer).to(dtype).float()
    with torch.inference_mode():  # here torch computes it whole, in float32 too
        exact = rounded(x.to(dtype).float())
    with grad_mode():
        ours = at_precision(layer, precision)(x)
    assert torch.equal(ours, exact.to(dtype).float())
    assert not torch.equal(ours, exact)


class Squared(Norm):
    """A user's norm. The square it takes overflows in fp16 beyond 256; its result does not."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x: Tensor) -> Normed:
        root = x.square().mean((1, 2), keepdim=True).sqrt()
        return Normed(x / root * self.weight, root)


def test_a_users_norm_is_one_kernel_and_literally_its_operations() -> None:
    norm, x = Squared(DIM), activations(3000)
    tokens, root = copy.deepcopy(norm).half().float()(x.half().float())
    ours = at_precision(norm, "fp16")(x)
    assert torch.equal(ours.tokens, tokens.half().float())
    assert torch.equal(ours.scale, root.half().float())
    assert at_precision(norm, "fp16_literal")(x).scale.isinf().all()


def test_a_norm_within_a_norm_is_a_part_of_it() -> None:
    class Doubled(Norm):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.inner = Squared(dim)

        def forward(self, x: Tensor) -> Normed:
            return Normed(self.inner(x).tokens * 3)

    norm, x = Doubled(DIM), activations(1)
    expected = copy.deepcopy(norm).half().float()(x.half().float()).tokens
    assert torch.equal(at_precision(norm, "fp16")(x).tokens, expected.half().float())
