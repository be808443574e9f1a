"""The probes equal their formulas and leave the network as it was."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import tiny_spec
from trainers.build import build_model
from trainers.choice import Choice
from trainers.probes.base import ProbeBatch
from trainers.probes.features import Features, channel_entropy
from trainers.spec import ModelSpec

RESTORMER = ModelSpec.with_defaults(
    Choice(name="restormer-tiny", knobs={"embed_dim": 8}), Choice(name="i_ln")
)


def network(**knobs: int | tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_spec(backbone=knobs)).train()


def measured(model: nn.Module, lq: Tensor, at_once: int | None = None) -> dict[str, float]:
    return dict(ProbeBatch(model, lq, at_once).measure({"features": Features})["features"].scalars)


def features_of(model: nn.Module, lq: Tensor) -> list[Tensor]:
    """The outputs of the groups, one group after the other by hand."""
    model.eval()
    with torch.no_grad():
        shallow = model.conv_first(model.input_scale(lq))
        x = model.patch_embed.norm(shallow.flatten(2).transpose(1, 2)).tokens
        outputs = []
        for group in model.groups:
            x = group(x, tuple(lq.shape[2:]))
            outputs.append(x.double())
    model.train()
    return outputs


def test_the_trace_and_the_entropy_equal_their_formulas() -> None:
    model, lq = network(), torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    features = features_of(model, lq)
    energy = features[-1].square().sum(1)
    share = energy / energy.sum(1, keepdim=True)
    entropy = -(share * share.log()).sum(1).mean().item()
    expected = {"feature/entropy": entropy, "feature/entropy_normalised": entropy / math.log(8)}
    for number, x in enumerate(features):
        expected[f"feature/mean_square/group_{number}"] = x.square().mean().item()
        expected[f"feature/max_abs/group_{number}"] = x.abs().max().item()
    assert measured(model, lq) == pytest.approx(expected, rel=1e-6)
    in_parts = measured(model, lq, at_once=2)  # of two images and of one
    assert in_parts == pytest.approx(expected, rel=1e-6)


def test_no_more_images_than_asked_go_through_the_network_at_once() -> None:
    model, seen = network(), []
    model.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    measured(model, torch.rand(5, 3, 8, 8), at_once=2)
    assert seen == [2, 2, 1]


def test_entropy_is_ln_c_where_channels_are_alike_and_0_where_one_has_all() -> None:
    alike = torch.ones(2, 5, 180)
    alone = torch.zeros(2, 5, 180)
    alone[:, :, 7] = 3.0
    assert channel_entropy(alike) == pytest.approx(math.log(180))
    assert channel_entropy(alone) == 0.0


def test_entropy_is_taken_per_image_and_then_averaged() -> None:
    images = torch.zeros(2, 4, 2)
    images[0, :, 0] = images[1, :, 1] = 1.0  # each image in one channel, both together in two
    assert channel_entropy(images) == 0.0


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_mode_weights_gradients_and_hooks_alone(training: bool) -> None:
    model = network(drop_path=0.5).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lq = torch.rand(1, 3, 8, 8)
    assert measured(model, lq) == measured(model, lq), "evaluation mode: no drop path"
    assert all(module.training == training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_failing_network_is_left_without_hooks_and_in_its_mode() -> None:
    model = network()
    model.conv_first = nn.Conv2d(5, 8, 3)  # images have three channels
    with pytest.raises(RuntimeError):
        measured(model, torch.rand(1, 3, 8, 8))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_features_that_are_not_finite_are_measured_as_such() -> None:
    model = network()
    nn.init.constant_(model.groups[1].conv.bias, math.inf)
    values = measured(model, torch.rand(1, 3, 8, 8))
    assert math.isfinite(values["feature/mean_square/group_0"])
    assert not math.isfinite(values["feature/mean_square/group_1"])
    assert not math.isfinite(values["feature/max_abs/group_1"])
    assert math.isnan(values["feature/entropy"])


def test_features_too_large_to_square_in_float32_keep_their_size() -> None:
    model = network()
    nn.init.constant_(model.groups[1].conv.bias, 1e30)
    values = measured(model, torch.rand(1, 3, 8, 8))
    assert values["feature/mean_square/group_1"] == pytest.approx(1e60, rel=1e-5)


def test_a_single_channel_has_an_entropy_but_no_share_of_ln_1() -> None:
    values = measured(network(embed_dim=1, num_heads=(1, 1)), torch.rand(1, 3, 8, 8))
    assert values["feature/entropy"] == 0.0
    assert "feature/entropy_normalised" not in values


def test_a_u_is_traced_on_every_level_down_and_up() -> None:
    torch.manual_seed(0)
    model = build_model(tiny_spec(task="denoise_25").model_copy(update={"model": RESTORMER}))
    shapes: list[tuple[int, ...]] = []
    for level in model.groups:
        level.register_forward_hook(
            lambda _module, _inputs, output: shapes.append(tuple(output.shape))
        )
    values = measured(model, torch.rand(2, 3, 16, 24))
    widths, tokens = (8, 16, 32, 64, 32, 16, 16, 16), (384, 96, 24, 6, 24, 96, 384, 384)
    assert shapes == [(2, n, c) for n, c in zip(tokens, widths, strict=True)]
    assert {f"feature/mean_square/group_{number}" for number in range(8)} < values.keys()
    assert "feature/mean_square/group_8" not in values
