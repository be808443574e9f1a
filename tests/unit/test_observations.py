"""Each probe equals its formula, written out in float64; what is undefined is said."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from tests.tiny import tiny_spec
from trainers.backbones.attention import (
    WindowAttention,
    overlapping_position_index,
    relative_position_index,
)
from trainers.backbones.hat import OverlappingBlock
from trainers.build import build_model
from trainers.catalog import PROBES, KnobValue
from trainers.choice import Choice
from trainers.norms.none import NoNorm
from trainers.probes.base import Observation, ProbeBatch
from trainers.probes.bias_alignment import alignment, mean_ranks
from trainers.probes.places import blocks_of
from trainers.probes.position_bias import geary
from trainers.spec import ModelSpec

IMAGES = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(1))
SMALL: dict[str, dict[str, KnobValue]] = {
    "swinir-tiny": {"embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4},
    "hat-tiny": {"embed_dim": 8, "window_size": 4, "squeeze_factor": 4},
    "drct-tiny": {"embed_dim": 8, "window_size": 4, "gc": 4},
    "restormer-tiny": {"embed_dim": 8},
}


def network(
    norm: str = "i_ln", backbone: str = "swinir-tiny", task: str = "sr_x2", **knobs: KnobValue
) -> nn.Module:
    """A small network in evaluation mode, weights and biases drawn wide enough to matter."""
    torch.manual_seed(0)
    model = ModelSpec.with_defaults(
        Choice(name=backbone, knobs=SMALL[backbone]), Choice(name=norm, knobs=knobs)
    )
    made = build_model(tiny_spec(task=task).model_copy(update={"model": model})).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def observed(model: nn.Module, probe: str, at_once: int | None = None) -> Observation:
    return ProbeBatch(model, IMAGES, at_once).measure({probe: PROBES[probe].load()})[probe]


def seen_at(modules: list[nn.Module], model: nn.Module, *, inputs: bool = False) -> list[Tensor]:
    """The outputs, or first inputs, of modules for IMAGES, in float64."""
    found: dict[int, Tensor] = {}

    def hook(number: int) -> Callable[..., None]:
        def keep(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            found[number] = (given[0] if inputs else output).double()

        return keep

    handles = [module.register_forward_hook(hook(i)) for i, module in enumerate(modules)]
    with torch.no_grad():
        model(IMAGES)
    for handle in handles:
        handle.remove()
    return [found[i] for i in range(len(modules))]


# --- where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "task", "of_groups", "kind"),
    [
        ("swinir-tiny", "sr_x2", (2, 2), {"SwinBlock"}),
        ("hat-tiny", "sr_x2", (3, 3), {"HybridBlock", "OverlappingBlock"}),
        ("drct-tiny", "sr_x2", (5, 5), {"SwinBlock"}),
        ("restormer-tiny", "denoise_25", (1,) * 8, {"TransformerBlock"}),
    ],
)
def test_the_blocks_of_a_group_are_those_that_its_forward_runs(
    backbone: str, task: str, of_groups: tuple[int, ...], kind: set[str]
) -> None:
    blocks = blocks_of(network(backbone=backbone, task=task))
    names = [f"group_{i}/block_{j}" for i, depth in enumerate(of_groups) for j in range(depth)]
    assert [block.name for block in blocks] == names
    assert {type(block.module).__name__ for block in blocks} == kind
    assert all(len(block.norms) == 2 for block in blocks)


# --- blocks and entropy ---------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [None, 2])
def test_blocks_are_the_mean_square_and_the_maximum_of_each_block(at_once: int | None) -> None:
    model = network()
    modules = [block for group in model.layers for block in group.residual_group.blocks]
    expected = {}
    for i, x in enumerate(seen_at(modules, model)):
        expected[f"block/mean_square/group_{i // 2}/block_{i % 2}"] = (
            x**2
        ).sum().item() / x.numel()
        expected[f"block/max_abs/group_{i // 2}/block_{i % 2}"] = max(x.max(), -x.min()).item()
    assert observed(model, "blocks", at_once).scalars == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("at_once", [None, 2])
def test_entropy_and_the_top_share_of_every_group_equal_their_formulas(at_once: int | None) -> None:
    model = network()
    expected = {}
    for group, x in enumerate(seen_at(list(model.layers), model)):
        entropies, tops = [], []
        for image in x:
            energy = [(image[:, c] ** 2).sum().item() for c in range(8)]
            shares = [one / sum(energy) for one in energy]
            entropies.append(-sum(p * math.log(p) for p in shares))
            tops.append(max(shares))
        expected[f"feature/entropy/group_{group}"] = np.mean(entropies)
        expected[f"feature/entropy_normalised/group_{group}"] = np.mean(entropies) / math.log(8)
        expected[f"feature/top_channel_share/group_{group}"] = np.mean(tops)
    seen = observed(model, "entropy", at_once)
    assert seen.scalars == pytest.approx(expected, rel=1e-6)
    last = observed(model, "features", at_once).scalars["feature/entropy"]
    assert seen.scalars["feature/entropy/group_1"] == pytest.approx(last)


@pytest.mark.parametrize("value", [0.0, math.inf])
def test_features_without_shares_have_no_entropy_and_it_is_said(value: float) -> None:
    model = network()
    for group in model.layers:
        group.register_forward_hook(lambda _module, _inputs, output: torch.full_like(output, value))
    seen = observed(model, "entropy")
    assert not seen.scalars
    assert len(seen.undefined) == 6
    assert "all 0, or not finite" in seen.undefined["feature/top_channel_share/group_1"]


# --- scale ----------------------------------------------------------------------------------------


def test_the_scale_of_i_ln_is_the_deviation_of_each_images_tokens() -> None:
    model = network()
    norms = [
        norm
        for group in model.layers
        for block in group.residual_group.blocks
        for norm in (block.norm1, block.norm2)
    ]
    names = [f"group_{i}/block_{j}/branch_{k}" for i, j, k in itertools.product(range(2), repeat=3)]
    seen = observed(model, "scale", at_once=2)
    assert list(seen.scalars) == [f"scale/{name}" for name in names]
    for name, x in zip(names, seen_at(norms, model, inputs=True), strict=True):
        per_image = [math.sqrt(((one - one.mean()) ** 2).mean() + 1e-4) for one in x]
        assert seen.scalars[f"scale/{name}"] == pytest.approx(np.mean(per_image), rel=1e-6)
        np.testing.assert_allclose(seen.arrays[name], [np.mean(per_image)], rtol=1e-6)


def test_the_scales_of_layer_scale_and_rezero_are_their_weights() -> None:
    model = network("layer_scale")
    gamma = torch.linspace(-0.5, 1.0, 8)
    model.layers[1].residual_group.blocks[0].norm2.gamma.data.copy_(gamma)
    seen = observed(model, "scale", at_once=1)
    assert seen.scalars["scale/group_1/block_0/branch_1"] == pytest.approx(
        gamma.abs().mean().item()
    )
    np.testing.assert_allclose(seen.arrays["group_1/block_0/branch_1"], gamma, rtol=1e-6)
    model = network("rezero")
    model.layers[0].residual_group.blocks[1].norm1.weight.data.fill_(-0.25)
    seen = observed(model, "scale")
    assert seen.scalars["scale/group_0/block_1/branch_0"] == 0.25
    assert seen.arrays["group_0/block_1/branch_0"].tolist() == [-0.25]


@pytest.mark.parametrize(
    ("norm", "knobs"), [("layer_norm", {}), ("none", {}), ("i_ln", {"rescale": False})]
)
def test_norms_without_a_scale_have_none(norm: str, knobs: dict[str, KnobValue]) -> None:
    seen = observed(network(norm, **knobs), "scale")
    assert (dict(seen.scalars), dict(seen.arrays)) == ({}, {})
    assert seen.undefined == {"scale": "no norm of a block gives its branch a scale"}


# --- bias alignment -------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["layer_norm", "i_ln", "batch_norm"])
@pytest.mark.parametrize("at_once", [None, 2])
def test_bias_alignment_compares_the_final_norms_input_with_its_bias(
    norm: str, at_once: int | None
) -> None:
    model = network(norm)
    (x,) = seen_at([model.norm], model, inputs=True)
    a = np.array([math.sqrt((x[:, :, c] ** 2).mean()) for c in range(8)])
    b = np.abs(model.norm.bias.detach().double().numpy())
    seen = observed(model, "bias_alignment", at_once)
    np.testing.assert_allclose(seen.arrays["rms"], a, rtol=1e-6)
    np.testing.assert_allclose(seen.arrays["bias"], model.norm.bias.detach().numpy())
    tops = [set(np.argsort(values)[-3:]) for values in (a, b)]
    expected = {
        "bias_alignment/pearson": stats.pearsonr(a, b).statistic,
        "bias_alignment/spearman": stats.spearmanr(a, b).statistic,
        "bias_alignment/argmax_equal": float(a.argmax() == b.argmax()),
        "bias_alignment/top_3_overlap": len(tops[0] & tops[1]) / 3,
    }
    assert seen.scalars == pytest.approx(expected, rel=1e-6)
    assert not seen.undefined


def test_a_bias_that_follows_the_features_is_aligned_and_one_against_them_is_not() -> None:
    a = np.array([0.5, 4.0, 1.0, 3.0, 2.0])
    assert alignment(a, 10 * a) == (pytest.approx(1.0), pytest.approx(1.0), 1.0, 1.0)
    assert alignment(a, 5.0 - a) == (pytest.approx(-1.0), pytest.approx(-1.0), 0.0, 1 / 3)
    assert alignment(a, a**9)[1:] == (pytest.approx(1.0), 1.0, 1.0)


def test_ranks_and_correlations_with_ties_equal_scipys() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        a, b = random.integers(0, 4, (2, 12)).astype(float)
        assert mean_ranks(a).tolist() == stats.rankdata(a).tolist()
        if min(np.ptp(a), np.ptp(b)) > 0:
            pearson, spearman, *_ = alignment(a, b)
            assert pearson == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
            assert spearman == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    tied = np.array([1.0, 1.0, 0.0, 0.5])
    assert alignment(tied, np.array([0.0, 2.0, 1.0, 0.5]))[2] == 1.0, "channel 1 is largest in both"


def test_correlations_of_values_near_the_ends_of_float64_are_finite() -> None:
    a, b = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    for factor in (1e-300, 1e300):
        assert alignment(factor * a, b) == pytest.approx(alignment(a, b))


@pytest.mark.parametrize(
    ("norm", "why"),
    [
        ("rms_norm", "the final norm, RMSNorm, has no bias"),
        ("bias_free_layer_norm", "the final norm, BiasFreeLayerNorm, has no bias"),
        ("rezero", "the final norm, NoNorm, has no bias"),
        ("none", "the final norm, NoNorm, has no bias"),
    ],
)
def test_without_a_bias_its_alignment_is_undefined(norm: str, why: str) -> None:
    seen = observed(network(norm), "bias_alignment")
    assert (dict(seen.scalars), dict(seen.arrays)) == ({}, {})
    assert set(seen.undefined.values()) == {why}
    assert len(seen.undefined) == 4


def test_alignment_is_undefined_for_a_bias_of_zeros_and_for_features_that_are_not_finite() -> None:
    model = network("layer_norm")
    nn.init.constant_(model.norm.bias, -0.1)
    why = set(observed(model, "bias_alignment").undefined.values())
    assert why == {"the |bias| of the final norm is the same in every channel"}
    model = network("layer_norm")
    nn.init.constant_(model.conv_first.bias, math.nan)
    seen = observed(model, "bias_alignment")
    assert not seen.scalars
    assert set(seen.undefined.values()) == {"the RMS of the final norm's input is not finite"}
    restormer = network(backbone="restormer-tiny", task="denoise_25")
    assert set(observed(restormer, "bias_alignment").undefined.values()) == {
        "the network has no norm before its head"
    }


# --- position bias --------------------------------------------------------------------------------


def test_a_map_has_the_bias_of_query_and_key_at_their_offset() -> None:
    size, heads = 4, 2
    attention = WindowAttention(8, heads, size, img_size=0, qkv_bias=True)
    maps, table = attention.position_maps(), attention.relative_position_bias_table
    index = relative_position_index(size, torch.device("cpu"))
    assert maps.shape == (heads, 7, 7)
    for query, key in itertools.product(range(size**2), repeat=2):
        dy, dx = query // size - key // size, query % size - key % size
        assert torch.equal(maps[:, dy + size - 1, dx + size - 1], table[index[query, key]])


@pytest.mark.parametrize(("size", "ratio"), [(4, 0.5), (16, 0.5), (8, 0.0), (8, 1.0)])
def test_the_overlapping_map_is_unrolled(size: int, ratio: float) -> None:
    block = OverlappingBlock(8, 2, size, ratio, 2.0, True, NoNorm)
    maps, table, larger = block.position_maps(), block.relative_position_bias_table, block.larger
    side = size + larger - 1
    assert maps.shape == (2, side, side)
    index = overlapping_position_index(size, larger, torch.device("cpu"))
    for query, key in itertools.product(range(0, size**2, 5), range(0, larger**2, 7)):
        dy, dx = key // larger - query // size, key % larger - query % size
        assert torch.equal(maps[:, dy + size - 1, dx + size - 1], table[index[query, key]])
    if size == 16:  # as section 2 of the protocol writes it; Python's negative indices wrap too
        for dy, dx in itertools.product(range(-15, 24), repeat=2):
            at = (dy - 7) * 39 + (dx - 7)
            assert torch.equal(maps[:, dy + 15, dx + 15], table[at])


def test_position_bias_keeps_every_table_as_maps_with_its_roughness() -> None:
    model = network(backbone="hat-tiny")
    tables = [
        model.layers[i].residual_group.blocks[k].attn if k < 2
        else model.layers[i].residual_group.overlap_attn
        for i, k in itertools.product(range(2), range(3))
    ]  # fmt: skip
    seen = observed(model, "position_bias", at_once=1)
    expected = {}
    for number, table in enumerate(tables):
        name, maps = f"group_{number // 3}/table_{number % 3}", table.position_maps().detach()
        assert np.array_equal(seen.arrays[name], maps.numpy())
        ratios = [written_out_geary(one.double().numpy()) for one in maps]
        expected[f"position_bias/roughness/{name}"] = np.mean(ratios)
    expected["position_bias/roughness"] = np.mean(list(expected.values()))
    assert seen.scalars == pytest.approx(expected, rel=1e-9)
    assert seen.arrays["group_0/table_2"].shape == (2, 9, 9)


def test_a_network_without_tables_has_no_roughness_and_one_with_a_flat_map_neither() -> None:
    seen = observed(network(backbone="restormer-tiny", task="denoise_25"), "position_bias")
    assert (dict(seen.scalars), dict(seen.arrays)) == ({}, {})
    assert seen.undefined == {"position_bias/roughness": "no position bias tables"}
    model = network()
    table = model.layers[0].residual_group.blocks[1].attn.relative_position_bias_table
    nn.init.constant_(table, 0.5)
    seen = observed(model, "position_bias")
    assert "position_bias/roughness/group_0/table_1" in seen.undefined
    assert "position_bias/roughness" in seen.undefined
    assert math.isfinite(seen.scalars["position_bias/roughness/group_1/table_1"])


def written_out_geary(image: np.ndarray) -> float:
    """Geary (1954) over all ordered pairs of pixels; w is 1 for pixels that share an edge."""
    (height, width), n = image.shape, image.size
    places = list(itertools.product(range(height), range(width)))
    total = weights = 0.0
    for one, other in itertools.product(places, repeat=2):
        if abs(one[0] - other[0]) + abs(one[1] - other[1]) == 1:
            weights += 1
            total += (image[one] - image[other]) ** 2
    spread = ((image - image.mean()) ** 2).sum()
    return (n - 1) * total / (2 * weights * spread)


def test_roughness_of_four_pixels_by_hand() -> None:
    # Four edges: 1, 1, 4, 4; squares about 2.5 add up to 5: 3 * 10 / (2 * 4 * 5).
    assert geary(np.array([[1.0, 2.0], [3.0, 4.0]])) == pytest.approx(0.75)


def test_a_smooth_filter_is_smooth_noise_is_1_and_a_chequered_one_rougher() -> None:
    y, x = np.mgrid[-15:16, -15:16]
    smooth = np.exp(-(x**2 + y**2) / (2 * 6.0**2))
    noise = np.random.default_rng(0).standard_normal((31, 31))
    chequered = (-1.0) ** (x + y)
    ratios = [geary(image) for image in (smooth, noise, chequered)]
    assert ratios == pytest.approx([written_out_geary(i) for i in (smooth, noise, chequered)])
    assert ratios[0] < 0.05
    assert ratios[1] == pytest.approx(1.0, abs=0.1)
    assert ratios[2] == pytest.approx(2.0, abs=0.01)
    slightly = geary(smooth + 0.1 * noise)
    assert ratios[0] < slightly < ratios[1], "noise on a smooth filter makes it rougher"


def test_the_mean_roughness_over_all_orders_of_the_pixels_is_1() -> None:
    pixels = (0.3, -1.0, 2.5, 0.1, 4.0, 0.0)
    orders = [geary(np.array(order).reshape(2, 3)) for order in itertools.permutations(pixels)]
    assert np.mean(orders) == pytest.approx(1.0, abs=1e-12)


def test_roughness_does_not_change_with_a_factor_or_a_constant() -> None:
    image = np.random.default_rng(1).standard_normal((5, 5))
    for changed in (3.0 * image, image + 7.0, -1e200 * image, 1e-200 * image):
        assert geary(changed) == pytest.approx(geary(image))
    for undefined in (np.full((3, 3), 2.0), np.array([[1.0, math.nan], [0.0, 2.0]])):
        assert geary(undefined) is None


# --- fp16 -----------------------------------------------------------------------------------------


def test_the_share_of_fp16s_range_is_each_layers_largest_output_over_65504() -> None:
    model = network("layer_norm")
    names = [
        "conv_first",
        "layers.1",
        "layers.0.residual_group.blocks.1",
        "layers.0.residual_group.blocks.1.attn.qkv",
        "layers.1.residual_group.blocks.0.attn.proj",
        "layers.1.residual_group.blocks.0.mlp.fc1",
        "layers.1.conv",
        "upsample.0",
    ]
    seen = observed(model, "fp16_range", at_once=2)
    for name, x in zip(names, seen_at([model.get_submodule(n) for n in names], model), strict=True):
        np.testing.assert_allclose(seen.arrays[name], [x.abs().max() / 65504], rtol=1e-6)
    assert {f"layers.0.residual_group.blocks.0.norm{k}" for k in (1, 2)} < seen.arrays.keys()
    assert {"norm", "patch_embed.norm"} < seen.arrays.keys()
    largest = max(float(array[0]) for array in seen.arrays.values())
    assert seen.scalars == {"fp16_range/largest_share": largest}
    assert np.finfo(np.float16).max == 65504


def test_the_layer_that_leaves_fp16s_range_is_named() -> None:
    model, name = network("layer_norm"), "layers.1.residual_group.blocks.1.mlp.fc2"
    nn.init.constant_(model.get_submodule(name).bias, 70_000.0)
    seen = observed(model, "fp16_range")
    beyond = {layer for layer, share in seen.arrays.items() if share[0] > 1}
    assert {name, "layers.1.residual_group.blocks.1"} <= beyond, "and the sum that it is added to"
    assert not any(layer.startswith("layers.0") for layer in beyond)
    assert seen.scalars["fp16_range/largest_share"] > 70_000 / 65_504


def test_the_scale_of_a_norm_counts_in_its_layer() -> None:
    model = network("i_ln")
    nn.init.constant_(model.conv_first.weight, 1e6)
    seen = observed(model, "fp16_range")
    assert seen.arrays["layers.0.residual_group.blocks.0.norm1"][0] > 1


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_an_output_that_is_not_finite_is_beyond_any_range(value: float) -> None:
    model = network()
    nn.init.constant_(model.layers[1].conv.bias, value)
    seen = observed(model, "fp16_range")
    assert seen.scalars["fp16_range/largest_share"] == math.inf
    assert not any(np.isnan(array).any() for array in seen.arrays.values())
    assert math.isfinite(seen.arrays["layers.0"][0])


# --- the port -------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", ["position_bias", "bias_alignment"])
def test_a_parameter_is_read_while_it_is_whole(probe: str) -> None:
    """As at ZeRO stage 3: outside its module's forward, a rank has no values of a parameter."""
    model = network("layer_norm")
    expected = observed(model, probe)
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        whole = {name: parameter.data for name, parameter in own.items()}

        def gather(_module: nn.Module, _inputs: object, own=own, whole=whole) -> None:  # type: ignore[no-untyped-def]
            for name, parameter in own.items():
                parameter.data = whole[name]

        def release(_module: nn.Module, _inputs: object, _output: object, own=own) -> None:  # type: ignore[no-untyped-def]
            for parameter in own.values():
                parameter.data = torch.empty(0)

        if own:
            module.register_forward_pre_hook(gather)
            module.register_forward_hook(release)
            release(module, None, None)
    seen = observed(model, probe)
    assert seen.scalars == pytest.approx(dict(expected.scalars))
    for name, array in expected.arrays.items():
        assert np.array_equal(seen.arrays[name], array)
