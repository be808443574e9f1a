"""Our SwinIR equals the published one (spandrel 0.4.2): output, gradients, parameters, state-dict keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import tiny_spec
from trainers.build import build_model
from trainers.catalog import KnobValue
from trainers.spec import Choice, ModelSpec

# Relative to the largest value: rounding of another order of the same sums, over two to six blocks.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}
BUFFERS = ("attn_mask", "relative_position_index")

VARIANTS: dict[str, dict[str, Any]] = {
    "classical x2": {"scale": 2},
    "classical x3": {"scale": 3},
    "classical x4": {"scale": 4},
    "light x2": {"scale": 2, "upsampler": "pixelshuffledirect"},
    "light x4": {"scale": 4, "upsampler": "pixelshuffledirect"},
    "same size": {"scale": 1},
    "wide window, uneven groups": {"scale": 2, "depths": (1, 3), "num_heads": (3, 2), "window_size": 6},
    "no qkv bias, narrow MLP": {"scale": 2, "qkv_bias": False, "mlp_ratio": 1.5},
}


def pair(archs: dict[str, Any], dtype: torch.dtype, variant: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Ours and theirs with the same random weights."""
    knobs: dict[str, KnobValue] = {
        "embed_dim": 12,
        "depths": (2, 2),
        "num_heads": (2, 2),
        "window_size": 4,
        "drop_path": 0.0,
        "upsampler": "pixelshuffle",
        **variant,
    }
    scale = knobs.pop("scale")
    torch.manual_seed(0)
    spec = tiny_spec(task="denoise_25" if scale == 1 else f"sr_x{scale}", norm="layer_norm", backbone=knobs)
    ours = build_model(spec).to(dtype)
    backbone = spec.model.backbone
    theirs = archs["SwinIR"](
        img_size=10 * backbone["window_size"],  # where its mask was made; other sizes make their own
        embed_dim=backbone["embed_dim"],
        depths=list(backbone["depths"]),
        num_heads=list(backbone["num_heads"]),
        window_size=backbone["window_size"],
        mlp_ratio=backbone["mlp_ratio"],
        qkv_bias=backbone["qkv_bias"],
        drop_path_rate=0.0,
        upscale=scale,
        upsampler=backbone["upsampler"] if scale > 1 else "",
        img_range=1.0,
    ).to(dtype)
    for parameter in ours.parameters():  # zeros and ones would hide what norms and biases do
        nn.init.normal_(parameter, std=0.2)
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert all(key.endswith(BUFFERS) for key in missing)
    assert not unexpected
    return ours, theirs


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
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, parameter in ours.named_parameters():
        error = (parameter.grad - gradients[name]).abs().max() / largest
        assert error <= TOLERANCE[dtype], f"gradient of {name}: {error:.2e}"


def test_a_published_state_dict_loads_once_its_buffers_are_dropped(spandrel_archs) -> None:
    ours, theirs = pair(spandrel_archs, torch.float32, {"scale": 2})
    weights = {key: value for key, value in theirs.state_dict().items() if not key.endswith(BUFFERS)}
    ours.load_state_dict(weights)


@pytest.mark.parametrize(
    ("name", "task", "parameters"),
    [
        ("swinir", "sr_x2", 11_752_487),
        ("swinir", "sr_x4", 11_900_199),
        ("swinir-light", "sr_x2", 910_152),
        ("swinir-light", "sr_x4", 929_628),
        ("swinir", "denoise_25", 11_504_163),
    ],
)
def test_presets_have_the_published_number_of_parameters(name: str, task: str, parameters: int) -> None:
    model = ModelSpec.with_defaults(Choice(name=name), Choice(name="layer_norm"))
    network = build_model(tiny_spec(task=task).model_copy(update={"model": model}))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
