"""Our SwinIR, HAT and DRCT equal the published ones (spandrel 0.4.2): output, gradients, parameters, state-dict keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import tiny_spec
from trainers.backbones.network import reflect_to_multiple
from trainers.backbones.published import network_state
from trainers.build import build_model
from trainers.spec import Choice, ModelSpec

# Relative to the largest value: rounding of another order of the same sums, over two to ten blocks.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}

SWINIR = {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4}
HAT = {**SWINIR, "compress_ratio": 3, "squeeze_factor": 4}
DRCT = {**SWINIR, "gc": 4}
VARIANTS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "swinir classical x2": ("swinir", 2, SWINIR),
    "swinir classical x3": ("swinir", 3, SWINIR),
    "swinir classical x4": ("swinir", 4, SWINIR),
    "swinir light x2": ("swinir", 2, {**SWINIR, "upsampler": "pixelshuffledirect"}),
    "swinir light x4": ("swinir", 4, {**SWINIR, "upsampler": "pixelshuffledirect"}),
    "swinir denoise": ("swinir", 1, SWINIR),
    "swinir JPEG: window 7, img_range 255": ("swinir", 1, {**SWINIR, "window_size": 7, "img_range": 255.0}),
    "swinir, uneven groups": ("swinir", 2, {**SWINIR, "depths": (1, 3), "num_heads": (3, 2), "window_size": 6}),
    "swinir, no qkv bias, narrow MLP": ("swinir", 2, {**SWINIR, "qkv_bias": False, "mlp_ratio": 1.5}),
    "hat x2": ("hat", 2, HAT),
    "hat x3": ("hat", 3, HAT),
    "hat x4": ("hat", 4, HAT),
    "hat, uneven groups": ("hat", 2, {**HAT, "depths": (1, 3), "num_heads": (3, 2), "window_size": 8}),
    "hat, less overlap, strong convolution": ("hat", 2, {**HAT, "overlap_ratio": 1.0, "conv_scale": 0.7}),
    "hat, no qkv bias, narrow MLP": ("hat", 2, {**HAT, "qkv_bias": False, "mlp_ratio": 1.5}),
    "drct x2": ("drct", 2, DRCT),
    "drct x3": ("drct", 3, DRCT),
    "drct x4": ("drct", 4, DRCT),
    "drct, heads that change with the width": ("drct", 2, {**DRCT, "num_heads": (6,), "depths": (6,), "gc": 8}),
    "drct, no qkv bias, narrow MLP": ("drct", 2, {**DRCT, "qkv_bias": False, "mlp_ratio": 1.5}),
}
THEIR_NAMES = {"drop_path": "drop_path_rate"}


class Padded(nn.Module):
    """Published DRCT leaves padding to its caller."""

    def __init__(self, network: nn.Module, window_size: int, scale: int) -> None:
        super().__init__()
        self.network, self.window_size, self.scale = network, window_size, scale

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        h, w = image.shape[2:]
        return self.network(reflect_to_multiple(image, self.window_size))[:, :, : h * self.scale, : w * self.scale]


def pair(
    archs: dict[str, Any], dtype: torch.dtype, variant: tuple[str, int, dict[str, Any]]
) -> tuple[nn.Module, nn.Module]:
    """Ours and theirs with the same random weights."""
    name, scale, given = variant
    torch.manual_seed(0)
    tiny = tiny_spec(task="denoise_25" if scale == 1 else f"sr_x{scale}")
    choice = Choice(name=name, knobs={"drop_path": 0.0, **given})
    spec = tiny.model_copy(update={"model": ModelSpec.with_defaults(choice, Choice(name="layer_norm"))})
    ours = build_model(spec).to(dtype)
    for parameter in ours.parameters():  # zeros and ones would hide what norms and biases do
        nn.init.normal_(parameter, std=0.2)
    theirs = theirs_of(archs, name, scale, spec.model.backbone.knobs).to(dtype)
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not network_state(dict.fromkeys(missing, torch.zeros(1)))  # nothing is missing but buffers
    assert not unexpected
    return ours, Padded(theirs, spec.model.backbone["window_size"], scale) if name == "drct" else theirs


def theirs_of(archs: dict[str, Any], name: str, scale: int, knobs: dict[str, Any]) -> nn.Module:
    given = {THEIR_NAMES.get(knob, knob): list(v) if isinstance(v, tuple) else v for knob, v in knobs.items()}
    given["img_size"] = 10 * knobs["window_size"]  # where their mask was made; other sizes make their own
    if name == "swinir" and scale == 1:
        given["upsampler"] = ""
    return archs[name](upscale=scale, **{"upsampler": "pixelshuffle", "img_range": 1.0, **given})


def assert_near(ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    error = (ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12)
    assert error <= TOLERANCE[theirs.dtype], f"{what}: {error:.2e}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("size", [(16, 24), (13, 19)], ids=["whole windows", "odd"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_output_and_gradients_equal_the_published_network(spandrel_archs, variant, size, dtype) -> None:
    ours, theirs = pair(spandrel_archs, dtype, variant)
    image = torch.rand(2, 3, *size, dtype=dtype)
    images = [image.clone().requires_grad_() for _ in range(2)]
    outputs = [network(x) for network, x in zip((ours, theirs), images, strict=True)]
    assert_near(*outputs, "output")
    weights = torch.randn_like(outputs[0])
    for output in outputs:
        (output * weights).sum().backward()
    assert_near(images[0].grad, images[1].grad, "gradient of the input")
    gradients = {name.removeprefix("network."): parameter.grad for name, parameter in theirs.named_parameters()}
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, parameter in ours.named_parameters():
        error = (parameter.grad - gradients[name]).abs().max() / largest
        assert error <= TOLERANCE[dtype], f"gradient of {name}: {error:.2e}"


PUBLISHED = {
    ("swinir", "sr_x2"): 11_752_487,
    ("swinir", "sr_x4"): 11_900_199,
    ("swinir-light", "sr_x2"): 910_152,
    ("swinir-light", "sr_x4"): 929_628,
    ("swinir", "denoise_25"): 11_504_163,
    ("swinir-jpeg", "jpeg_40"): 11_492_067,
    ("hat-mini", "sr_x2"): 4_476_095,
    ("hat-mini", "sr_x4"): 4_623_807,
    ("hat-s", "sr_x2"): 9_473_471,
    ("hat-s", "sr_x4"): 9_621_183,
    ("hat", "sr_x2"): 20_624_795,
    ("hat", "sr_x4"): 20_772_507,
    ("drct", "sr_x2"): 13_991_867,
    ("drct", "sr_x4"): 14_139_579,
}


@pytest.mark.parametrize(("name", "task"), PUBLISHED)
def test_presets_have_the_published_number_of_parameters(name: str, task: str) -> None:
    model = ModelSpec.with_defaults(Choice(name=name), Choice(name="layer_norm"))
    network = build_model(tiny_spec(task=task).model_copy(update={"model": model}))
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED[name, task]
