"""Every line of PROBES keeps its promises in every kind of backbone."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import tiny_spec
from trainers.autocast import Network
from trainers.build import build_model, build_probes
from trainers.catalog import BACKBONES, NORMS, PROBES
from trainers.choice import Choice
from trainers.probes.base import Observation, ProbeBatch
from trainers.spec import ModelSpec

EVERY = pytest.mark.parametrize("name", [entry.name for entry in PROBES])
SMALL_NETWORKS = pytest.mark.parametrize("backbone", [entry.name for entry in BACKBONES])
IMAGES = torch.rand(5, 3, 8, 12, generator=torch.Generator().manual_seed(1))


def network(backbone: str = "swinir", norm: str = "i_ln") -> nn.Module:
    torch.manual_seed(0)
    entry = BACKBONES[backbone]
    assert entry.shape is not None
    drops = {"drop_path": 0.5} if "drop_path" in entry.knobs else {}
    model = ModelSpec.with_defaults(
        Choice(name=backbone, knobs={**entry.shape.small, **drops}), Choice(name=norm)
    )
    task, _ = next(iter(entry.shape.networks.values()))
    return build_model(tiny_spec(task=task).model_copy(update={"model": model})).train()


def measured(model: nn.Module, *names: str, at_once: int | None = None) -> dict[str, Observation]:
    return ProbeBatch(model, IMAGES, at_once).measure({name: PROBES[name].load() for name in names})


def assert_near(one: Observation, other: Observation, rel: float = 1e-6) -> None:
    """Equal up to float32's rounding, which differs with the number of images in a pass."""
    assert dict(one.scalars) == pytest.approx(dict(other.scalars), rel=rel)
    assert one.mean_squares == pytest.approx(other.mean_squares, rel=rel)
    assert one.undefined == other.undefined
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_allclose(array, other.arrays[name], rtol=rel)


@EVERY
def test_a_line_is_a_class_that_is_given_the_network_and_its_knobs(name: str) -> None:
    parameters = list(inspect.signature(PROBES[name].load()).parameters.values())
    assert parameters[0].name == "network"
    assert {p.name: p.default for p in parameters[1:]} == {
        k: v.default for k, v in PROBES[name].knobs.items()
    }
    assert PROBES[name].facts["gives"], "the documentation needs it"


@EVERY
@SMALL_NETWORKS
def test_of_a_sound_network_something_is_observed_and_all_of_it_is_finite(
    name: str, backbone: str
) -> None:
    seen = measured(network(backbone), name)[name]
    assert seen.scalars or seen.arrays or seen.undefined
    assert not seen.scalars.keys() & seen.undefined.keys()
    assert all(len(why) > 10 for why in seen.undefined.values()), "a sentence"
    assert all(math.isfinite(value) for value in (*seen.scalars.values(), *seen.mean_squares))
    for array in seen.arrays.values():
        assert array.dtype in (np.float64, np.float32)
        assert np.isfinite(array).all()


@pytest.mark.parametrize("norm", [entry.name for entry in NORMS])
def test_of_every_norm_something_is_said(norm: str) -> None:
    for seen in measured(network(norm=norm), *PROBES.names).values():
        assert seen.scalars or seen.arrays or seen.undefined
        assert all(math.isfinite(value) for value in seen.scalars.values())


@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_a_network_that_is_not_finite_is_measured_and_nothing_raises(broken: float) -> None:
    model = network()
    nn.init.constant_(model.conv_first.bias, broken)
    for seen in measured(model, *PROBES.names).values():
        assert seen.scalars or seen.arrays or seen.undefined


@EVERY
@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_it_does_not_matter_how_the_images_are_divided(name: str, at_once: int) -> None:
    model = network()
    assert_near(measured(model, name, at_once=at_once)[name], measured(model, name)[name])


def test_probes_that_share_a_pass_see_what_each_sees_alone_and_the_network_runs_once() -> None:
    model, passes = network(), []
    model.register_forward_pre_hook(lambda _module, inputs: passes.append(len(inputs[0])))
    together = measured(model, *PROBES.names, at_once=3)
    assert passes == [3, 2]
    for name in PROBES.names:
        assert_near(together[name], measured(model, name, at_once=3)[name], rel=0.0)


def test_no_two_probes_have_a_scalar_of_one_name() -> None:
    names = [name for seen in measured(network(), *PROBES.names).values() for name in seen.scalars]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_under_autocast_is_measured_under_the_same_names(dtype: torch.dtype) -> None:
    model = network()
    plain = measured(model, *PROBES.names)
    half = measured(Network(model, torch.device("cpu"), dtype), *PROBES.names)
    for name, seen in half.items():
        assert seen.scalars.keys() == plain[name].scalars.keys()
        assert seen.arrays.keys() == plain[name].arrays.keys()
        assert all(array.dtype in (np.float64, np.float32) for array in seen.arrays.values())
        assert dict(seen.scalars) == pytest.approx(dict(plain[name].scalars), rel=0.1)


@EVERY
@pytest.mark.parametrize("training", [True, False])
def test_looking_leaves_mode_weights_gradients_and_hooks_alone(name: str, training: bool) -> None:
    model = network(norm="batch_norm").train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert_near(measured(model, name)[name], measured(model, name)[name], rel=0.0)
    assert all(module.training == training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@EVERY
def test_looking_changes_no_output(name: str) -> None:
    model, outputs = network().eval(), []
    model.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    measured(model, name)
    with torch.no_grad():
        assert torch.equal(outputs[0], model(IMAGES))


@EVERY
def test_a_failing_network_is_left_without_hooks_and_in_its_mode(name: str) -> None:
    model = network()
    model.conv_first = nn.Conv2d(5, 8, 3)  # images have three channels
    with pytest.raises(RuntimeError):
        measured(model, name)
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("probes", [(), ("channels",), ("features",), ("channels", "features")])
def test_the_guard_judges_by_the_same_whatever_is_observed(probes: tuple[str, ...]) -> None:
    made = build_probes(tiny_spec(observe={"probes": probes}))
    assert made.keys() >= set(probes)
    seen = ProbeBatch(network(), IMAGES).measure(made)
    judged = [value for observation in seen.values() for value in observation.mean_squares]
    whole = measured(network(), "features")["features"]
    assert judged == list(whole.mean_squares)
    assert len(judged) == 2


@SMALL_NETWORKS
def test_channels_are_the_mean_square_of_each_channel_of_each_group(backbone: str) -> None:
    model, outputs = network(backbone).eval(), []
    for group in model.groups:
        group.register_forward_hook(
            lambda _module, _inputs, output: outputs.append(output.double())
        )
    with torch.no_grad():
        model(IMAGES)
    arrays = measured(network(backbone), "channels", at_once=2)["channels"].arrays
    assert list(arrays) == [f"group_{number}" for number in range(len(outputs))]
    for array, x in zip(arrays.values(), outputs, strict=True):
        np.testing.assert_allclose(array, x.square().mean((0, 1)).numpy(), rtol=1e-6)
