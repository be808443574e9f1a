"""Lowered precision: the quantiser's formula, and half precision against torch's own kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import tiny_spec
from trainers.build import build_model
from trainers.precision import HALF, PRECISIONS, at_precision, quantized


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_are_rounded_to_the_nearest_of_symmetric_steps(
    bits: int, per_channel: bool
) -> None:
    weight = (
        torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        * torch.arange(1, 6)[:, None, None, None]
    )
    levels = 2 ** (bits - 1) - 1
    expected = torch.empty_like(weight)
    for channel in range(5):
        largest = (weight[channel] if per_channel else weight).abs().max().item()
        grid = torch.arange(-levels, levels + 1) * largest / levels
        nearest = (weight[channel][..., None] - grid).abs().argmin(-1)
        expected[channel] = grid[nearest]
    torch.testing.assert_close(quantized(weight, bits, per_channel=per_channel), expected)


def test_a_tensor_of_zeros_stays() -> None:
    assert torch.equal(quantized(torch.zeros(3, 4), 8, per_channel=True), torch.zeros(3, 4))


def test_only_linear_and_convolution_weights_are_quantised() -> None:
    model = build_model(tiny_spec())
    of_layers = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    before, after = model.state_dict(), at_precision(model, "int4").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == of_layers


def native(layer: nn.Module, dtype: torch.dtype, x: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = copy.deepcopy(layer).to(dtype)(x.to(dtype))
    return output.float()


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(12, 7), (2, 9, 12)),
        (nn.Conv2d(6, 5, 3, padding=1), (2, 6, 8, 9)),
        (nn.LayerNorm(12), (2, 9, 12)),
        (nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12)), (2, 9, 12)),
    ],
    ids=["linear", "conv", "layer_norm", "mlp"],
)
def test_half_precision_is_that_of_torchs_kernels_within_rounding(
    precision: str, layer: nn.Module, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3
    with torch.no_grad():
        ours = at_precision(layer, precision)(x)
    theirs, dtype = native(layer, HALF[precision], x), HALF[precision]
    assert torch.equal(ours, ours.to(dtype).float())  # the format has every value
    unit = torch.finfo(dtype).eps * theirs.abs().max()
    assert (ours - theirs).abs().max() <= unit
    assert (
        ours == theirs
    ).float().mean() > 0.9  # now and then a sum in another order ends on the other side of a half


def test_beyond_65504_fp16_is_infinite_and_bf16_is_not() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 60000.0)
    with torch.no_grad():
        assert at_precision(layer, "fp16")(torch.full((1, 1), 2.0)).isinf().all()
        assert at_precision(layer, "bf16")(torch.full((1, 1), 2.0)).isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("norm", ["i_ln", "layer_norm", "batch_norm"])
def test_a_network_is_copied_and_its_own_weights_stay(precision: str, norm: str) -> None:
    model = build_model(tiny_spec(norm=norm)).eval()
    before = copy.deepcopy(model.state_dict())
    x = torch.rand(1, 3, 9, 11)
    with torch.inference_mode():
        full, lowered = model(x), at_precision(model, precision)(x)
    assert lowered.shape == full.shape
    assert (precision == "fp32") == torch.equal(full, lowered)
    assert (lowered - full).abs().max() < 0.2
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
