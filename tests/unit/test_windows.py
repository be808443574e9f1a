"""SwinIR keeps promises beside equality with the published network: any image size, and nothing
left over from an earlier pass.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.tiny import tiny_spec
from trainers.backbones import chunked_attention
from trainers.backbones.attention import relative_position_index, shift_masks
from trainers.backbones.network import reflect_to_multiple
from trainers.build import build_model
from trainers.choice import Choice
from trainers.conformance import HALF_ROUNDING, NETWORKS, Case


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
    assert all(
        torch.equal(parameter.grad, g)
        for parameter, g in zip(model.parameters(), gradients, strict=True)
    )


def output_and_gradients(name: str) -> list[torch.Tensor]:
    """Those of a network with every kind of block, in float64, on two images of 3 x 4 windows."""
    model = Case(Choice(name="layer_norm"), name).build()
    output = model(
        torch.rand(2, 3, 12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    output.square().sum().backward()
    return [output.detach(), *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.endswith("same size")])
def test_attention_is_the_same_in_parts_of_any_size_and_by_torchs_kernel(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    expected = output_and_gradients(name)
    scores_of_a_window = 16 * 16
    for windows in (1, 3, 4, 8, 12):  # a window, part of a row, a row, two of three rows, an image
        monkeypatch.setattr(chunked_attention, "SCORES_AT_A_TIME", windows * scores_of_a_window)
        for one, other in zip(output_and_gradients(name), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    monkeypatch.setattr(
        torch.compiler, "is_compiling", lambda: True
    )  # then torch's kernel is taken
    for one, other in zip(output_and_gradients(name), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.endswith("same size")])
@pytest.mark.parametrize("norm", ["layer_norm", "i_ln"])
def test_gradients_under_autocast_are_those_of_float32_rounded_wherever_backward_is_called(
    name: str, norm: str
) -> None:
    def gradients(enabled: bool, *, within: bool) -> list[torch.Tensor]:
        model = Case(Choice(name=norm), name).build().float()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = (
                model(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
                .square()
                .mean()
            )
            if within:
                loss.backward()
        if not within:
            loss.backward()
        return [parameter.grad for parameter in model.parameters()]

    exact, outside, inside = (
        gradients(False, within=False),
        gradients(True, within=False),
        gradients(True, within=True),
    )
    assert all(torch.equal(one, other) for one, other in zip(outside, inside, strict=True))
    least = 1e-4 * max(
        gradient.norm() for gradient in exact
    )  # smaller ones are rounding of the others
    for rounded, gradient in zip(outside, exact, strict=True):
        assert (rounded - gradient).norm() <= HALF_ROUNDING * max(gradient.norm(), least)


def test_every_table_of_position_bias_starts_drawn() -> None:
    torch.manual_seed(0)
    model = build_model(Case(Choice(name="layer_norm"), "hat, same size").spec())
    tables = [value for name, value in model.named_parameters() if name.endswith("bias_table")]
    assert len(tables) == 3
    for table in tables:
        assert 0.01 < table.std() < 0.03
