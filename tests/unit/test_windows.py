"""What SwinIR promises beside equality with the published network: any image size, nothing left of an earlier pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.tiny import tiny_spec
from trainers.backbones.attention import relative_position_index, shift_masks
from trainers.backbones.network import reflect_to_multiple
from trainers.build import build_model


def network(norm: str = "layer_norm", task: str = "denoise_25") -> nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_spec(norm=norm, task=task))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (4, 4), (5, 17)])
@pytest.mark.parametrize(("task", "scale"), [("denoise_25", 1), ("sr_x3", 3)])
def test_an_image_of_any_size_is_restored(task: str, scale: int, size: tuple[int, int]) -> None:
    restored = network(task=task)(torch.rand(2, 3, *size))
    assert restored.shape == (2, 3, size[0] * scale, size[1] * scale)
    assert restored.isfinite().all()


@pytest.mark.parametrize("size", [(5, 12), (8, 15), (7, 5)])
def test_padding_is_torchs_reflection_where_that_is_defined(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size)
    h, w = size
    expected = F.pad(image, (0, -w % 8, 0, -h % 8), mode="reflect")
    assert torch.equal(reflect_to_multiple(image, 8), expected)


def test_padding_goes_to_and_fro_over_an_image_smaller_than_it() -> None:
    image = torch.arange(3.0).view(1, 1, 1, 3).expand(1, 1, 8, 3)
    assert reflect_to_multiple(image, 8)[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]


@pytest.mark.parametrize("norm", ["layer_norm", "i_ln"])
def test_a_network_trains_after_it_was_evaluated(norm: str) -> None:
    relative_position_index.cache_clear()
    shift_masks.cache_clear()
    model, image = network(norm), torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        model.eval()(image)
    model(image).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(image).sum().backward()
    assert all(torch.equal(parameter.grad, g) for parameter, g in zip(model.parameters(), gradients, strict=True))
