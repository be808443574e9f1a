"""Norms equal their formulas, and keep what every norm promises to a block."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_spec
from trainers.build import build_model
from trainers.catalog import NORMS
from trainers.norms.base import Norm
from trainers.norms.i_ln import FoldedImageNorm, FusedImageNorm, ImageLayerNorm, image_norm

NAMES = [entry.name for entry in NORMS]


def built(name: str, dim: int = 6) -> Norm:
    """The norm in float64, its weight and bias drawn at random."""
    norm = NORMS[name].load()(dim, **NORMS[name].resolve({})).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    return norm


def tokens(*, images: int = 3, requires_grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(images, 5, 6, dtype=torch.float64, generator=generator) * 3 + 1
    return x.requires_grad_(requires_grad)


def test_layer_norm_is_torchs() -> None:
    norm, x = built("layer_norm"), tokens()
    theirs = torch.nn.functional.layer_norm(x, (6,), norm.weight, norm.bias, 1e-5)
    assert torch.equal(norm(x).tokens, theirs)


def test_rms_norm_equals_its_formula() -> None:
    norm, x = built("rms_norm"), tokens()
    expected = x / (x.square().mean(2, keepdim=True) + 1e-6).sqrt() * norm.weight
    torch.testing.assert_close(norm(x).tokens, expected, rtol=1e-12, atol=1e-12)


def test_bias_free_layer_norm_equals_its_formula_and_leaves_the_mean_in() -> None:
    norm, x = built("bias_free_layer_norm"), tokens()
    variance = (x - x.mean(2, keepdim=True)).square().mean(2, keepdim=True)
    torch.testing.assert_close(
        norm(x).tokens, x / (variance + 1e-5).sqrt() * norm.weight, rtol=1e-12, atol=1e-12
    )


def test_i_ln_equals_its_formula_and_gives_the_scale_back() -> None:
    norm, x = built("i_ln"), tokens()
    mean = x.mean((1, 2), keepdim=True)
    scale = ((x - mean).square().mean((1, 2), keepdim=True) + 1e-4).sqrt()
    normed = norm(x)
    torch.testing.assert_close(
        normed.tokens, (x - mean) / scale * norm.weight + norm.bias, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(normed.restore(x), x * scale, rtol=1e-12, atol=1e-12)


def test_i_ln_without_rescale_restores_nothing() -> None:
    x = tokens()
    assert ImageLayerNorm(6, rescale=False).double()(x).restore(x) is x


FAST = pytest.mark.parametrize("fast", [FusedImageNorm, FoldedImageNorm], ids=["fused", "folded"])


@FAST
def test_a_fast_i_ln_has_the_plain_formulas_values_and_gradients(fast) -> None:
    norm = built("i_ln")
    values = [
        formula(tokens(), norm.weight, norm.bias, 1e-4) for formula in (fast.apply, image_norm)
    ]
    for ours, plain in zip(*values, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    gradients = []
    for formula in (fast.apply, image_norm):
        x = tokens(requires_grad=True)
        normed, scale = formula(x, norm.weight, norm.bias, 1e-4)
        loss = (normed.square() * scale).sum() + (scale**3).sum()
        gradients.append(torch.autograd.grad(loss, [x, norm.weight, norm.bias]))
    for fused, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-10)


@FAST
@pytest.mark.parametrize("offset", [0.0, 8.0, 50.0], ids=["centred", "a little off", "off centre"])
def test_a_fast_i_ln_passes_gradcheck(fast, offset: float) -> None:
    norm = built("i_ln")
    x = (tokens(images=2) + offset).requires_grad_()
    assert torch.autograd.gradcheck(fast.apply, (x, norm.weight, norm.bias, 1e-4))


def features(kind: str, shape: tuple[int, int, int]) -> torch.Tensor:
    """Numbers that float32 has, in float64: random ones, or such that all errors of a sum have one
    sign.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(shape, dtype=torch.float64, generator=generator)
    x = {
        "drawn": drawn,
        "a little off centre": drawn + 3.5,
        "off centre": drawn + 300,
        "tokens alike": drawn[:, :1].expand(shape),
        "a channel that dominates": torch.cat(
            [torch.full_like(drawn[..., :1], 0.7), drawn[..., 1:] * 1e-2], dim=-1
        ),
    }[kind]
    return x.float().double()


@pytest.mark.parametrize("shape", [(2, 4096, 180), (2, 1 << 14, 12), (2, 1031, 12)], ids=str)
@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("drawn", "a drawn gradient"),
        ("drawn", "a mean"),
        ("a little off centre", "a drawn gradient"),
        ("off centre", "a drawn gradient"),
        ("tokens alike", "a mean"),
        ("a channel that dominates", "a drawn gradient"),
    ],
)
def test_i_ln_in_float32_keeps_its_digits(shape: tuple[int, int, int], kind: str, of: str) -> None:
    """Tokens, scale and gradients are within 1e-5 of float64's largest, as in the parity tests."""
    torch.manual_seed(0)
    x, norm = features(kind, shape), built("i_ln", shape[-1])
    grad = features("drawn", shape) if of == "a drawn gradient" else torch.full_like(x, 2.0**-10)
    results = []
    for formula, dtype in ((FusedImageNorm.apply, torch.float32), (image_norm, torch.float64)):
        inputs = [
            tensor.detach().to(dtype).requires_grad_() for tensor in (x, norm.weight, norm.bias)
        ]
        outputs = formula(*inputs, 1e-4)
        results.append(
            [
                *outputs,
                *torch.autograd.grad(
                    outputs, inputs, [grad.to(dtype), torch.ones_like(outputs[1])]
                ),
            ]
        )
    for ours, exact in zip(*results, strict=True):
        assert (ours.double() - exact).abs().max() <= 1e-5 * exact.abs().max()


# The same numbers, summed in another order: a factor of the error, and a part of the exact value.
ANOTHER_ORDER = 1.05, 1e-7


@pytest.mark.parametrize(
    "shape", [(2, 4096, 60), (2, 1031, 12), (1, 64, 180), (4, 256, 24)], ids=str
)
@pytest.mark.parametrize("mean", [1.5, 3.0, 100.0, 1e4])
def test_off_centre_i_lns_gradients_in_float32_are_no_worse_than_the_plain_formulas(
    mean: float, shape: tuple[int, int, int]
) -> None:
    """Nor are tokens and scale. The mean of the features is `mean` times their std."""
    torch.manual_seed(0)
    x, norm = (features("drawn", shape) + mean).float(), built("i_ln", shape[-1])
    grads = (
        torch.randn(shape, dtype=torch.float64),
        torch.randn(shape[0], 1, 1, dtype=torch.float64),
    )
    results = []
    single, double = torch.float32, torch.float64
    for formula, dtype in (
        (FusedImageNorm.apply, single),
        (image_norm, single),
        (image_norm, double),
    ):
        inputs = [
            tensor.detach().float().to(dtype).requires_grad_()
            for tensor in (x, norm.weight, norm.bias)
        ]
        outputs = formula(*inputs, 1e-4)
        results.append(
            [
                *outputs,
                *torch.autograd.grad(outputs, inputs, [grad.float().to(dtype) for grad in grads]),
            ]
        )
    factor, rounding = ANOTHER_ORDER
    for ours, plain, exact in zip(*results, strict=True):
        error, of_plain = ((value.double() - exact).norm() for value in (ours, plain))
        assert error <= factor * of_plain + rounding * exact.norm()


@FAST
def test_a_fast_i_lns_gradients_are_the_same_where_backward_is_called_within_autocast(fast) -> None:
    norm, grad = built("i_ln").float(), tokens().float()
    gradients = []
    for within in (True, False):
        x = tokens().float().requires_grad_()
        normed, _ = fast.apply(x, norm.weight, norm.bias, 1e-4)
        with torch.autocast("cpu", torch.bfloat16, enabled=within):
            gradients.append(torch.autograd.grad(normed, [x, norm.weight, norm.bias], grad))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@FAST
def test_a_fast_i_ln_takes_tokens_that_are_an_images_transpose_and_gradients_of_the_scale_alone(
    fast,
) -> None:
    norm = built("i_ln")
    turned = tokens().transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    weights = torch.randn_like(turned)
    for of in (lambda normed, scale: (normed * weights).sum(), lambda _, scale: scale.sum()):
        gradients = []
        for formula in (fast.apply, image_norm):
            x = turned.clone(memory_format=torch.preserve_format).requires_grad_()
            gradients += torch.autograd.grad(of(*formula(x, norm.weight, norm.bias, 1e-4)), [x])
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_i_ln_of_half_precision_features_is_that_of_the_same_numbers_in_float32(
    dtype: torch.dtype,
) -> None:
    norm = built("i_ln").float()
    features = (tokens() * 100).to(dtype)  # n * x^2 of a larger image would overflow
    x, y = features.clone().requires_grad_(), features.float().requires_grad_()
    halves, whole = norm(x), norm(y)
    assert torch.equal(halves.tokens, whole.tokens)
    assert torch.equal(halves.scale, whole.scale)
    for normed in (halves, whole):
        (normed.restore(normed.tokens).square().sum()).backward()
    assert torch.equal(x.grad, y.grad.to(dtype))


@pytest.fixture(scope="module")
def compiled() -> dict[str, str | None]:
    command = [sys.executable, "-m", "tests.compiled_norms"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_norm_equals_itself(compiled: dict[str, str | None], name: str) -> None:
    assert compiled[name] is None


def test_a_scale_without_gradient_would_be_noticed() -> None:
    """The gradient through the scale matters: the input's changes by over 1 % without it."""
    x = tokens(requires_grad=True)
    norm = built("i_ln")
    normed, scale = norm(x)
    (whole,) = torch.autograd.grad((normed * scale).square().sum(), x, retain_graph=True)
    (detached,) = torch.autograd.grad((normed * scale.detach()).square().sum(), x)
    assert (whole - detached).norm() > 0.01 * whole.norm()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", ["same", "affine", "identity"])
def test_every_norm_builds_with_every_end(name: str, end: str) -> None:
    spec = tiny_spec(norm=name)
    model = spec.model.model_copy(update={"embed_norm": end, "end_norm": end, "stdnorm": True})
    network = build_model(spec.model_copy(update={"model": model}))
    assert network(torch.rand(1, 3, 7, 9)).shape == (1, 3, 14, 18)
