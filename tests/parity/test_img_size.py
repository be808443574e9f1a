"""Windows are shifted for the same images as in the published networks, which go by the size that
they were constructed for.

Ours go by `img_size` in the same way. Where it is 0 they go by the image, like a network
constructed for the image's padded size. It makes a difference where the shorter side is one window.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.parity.test_backbones import (
    SWINIR,
    TOLERANCE,
    VARIANTS,
    Variant,
    assert_near,
    assert_output_and_gradients_are_near,
    for_each_dtype,
    pair,
    randomise,
    spec_of,
)
from trainers.backbones import chunked_attention
from trainers.build import build_model

NETWORKS = {
    "swinir": VARIANTS["swinir light x2"],
    "swinir, odd window": ("swinir", 1, {**SWINIR, "window_size": 7}),
    "hat": VARIANTS["hat x2"],
    "drct": VARIANTS["drct x2"],
}
GRIDS = [(1, 1), (1, 2), (2, 1), (2, 3)]  # rows and columns of windows
IMAGES = {  # rows and columns of windows, and how many pixels either side is short of them
    "one window": (1, 1, 0),
    "one window, padded": (1, 1, 1),
    "a row": (1, 3, 0),
    "a column, padded": (2, 1, 1),
    "several": (2, 2, 0),
}
CONSTRUCTED_FOR = {"each input": 0, "one window": 1, "several windows": 4}

for_each_network = pytest.mark.parametrize("variant", NETWORKS.values(), ids=NETWORKS)
for_each_grid = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid[0]}x{grid[1]}")


def with_img_size(variant: Variant, img_size: int) -> Variant:
    name, scale, knobs = variant
    return name, scale, {**knobs, "img_size": img_size}


def pair_for(
    archs: dict[str, Any],
    dtype: torch.dtype,
    variant: Variant,
    img_size: int,
    size: tuple[int, int],
) -> tuple[nn.Module, nn.Module]:
    """Ours with this `img_size`, and theirs constructed for it (for 0: for `size` once padded)."""
    height, width = (side + -side % variant[2]["window_size"] for side in size)
    return pair(archs, dtype, with_img_size(variant, img_size), img_size or (height, width))


@for_each_dtype
@pytest.mark.parametrize(("rows", "columns", "lacking"), IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("windows", CONSTRUCTED_FOR.values(), ids=CONSTRUCTED_FOR)
@for_each_network
def test_output_and_gradients_equal_a_published_network_constructed_for_img_size(
    spandrel_archs, variant, windows, rows, columns, lacking, dtype
) -> None:
    window = variant[2]["window_size"]
    size = (rows * window - lacking, columns * window - lacking)
    ours, theirs = pair_for(spandrel_archs, dtype, variant, windows * window, size)
    assert_output_and_gradients_are_near(ours, theirs, size, dtype)


@for_each_grid
@for_each_network
def test_masks_are_the_published_ones_in_parts_of_any_size_and_by_torchs_kernel(
    spandrel_archs, monkeypatch: pytest.MonkeyPatch, variant, grid
) -> None:
    window = variant[2]["window_size"]
    size = (grid[0] * window, grid[1] * window)
    networks = pair_for(spandrel_archs, torch.float64, variant, 4 * window, size)
    for windows in {1, grid[1], grid[0] * grid[1]}:  # a window at a time, a row, an image
        monkeypatch.setattr(chunked_attention, "SCORES_AT_A_TIME", windows * window**4)
        assert_output_and_gradients_are_near(*networks, size, torch.float64)
    monkeypatch.setattr(
        torch.compiler, "is_compiling", lambda: True
    )  # then torch's kernel is taken
    assert_output_and_gradients_are_near(*networks, size, torch.float64)


def output_of(variant: Variant, image: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    network = build_model(spec_of(variant)).to(image.dtype)
    randomise(network)
    with torch.no_grad():
        return network(image)


@for_each_grid
@for_each_network
def test_img_size_matters_where_the_shorter_side_is_one_window_and_nowhere_else(
    variant, grid
) -> None:
    window = variant[2]["window_size"]
    image = torch.rand(1, 3, grid[0] * window, grid[1] * window, dtype=torch.float64)
    by_input, unshifted, shifted = (
        output_of(with_img_size(variant, n * window), image) for n in (0, 1, 4)
    )
    assert torch.equal(by_input, unshifted if 1 in grid else shifted)
    # The difference is large enough for the tests above to see it.
    assert (shifted - unshifted).abs().max() > 10 * TOLERANCE[torch.float32] * shifted.abs().max()


@for_each_network
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_images_of_any_size_up_to_three_windows_equal_the_published_network(
    spandrel_archs, variant, data
) -> None:
    window = variant[2]["window_size"]
    size = data.draw(st.tuples(*[st.integers(1, 3 * window)] * 2), "size")
    # torch's reflection, and so theirs, reaches no further.
    assume(all(-side % window < side for side in size))
    # HAT takes any size; the others take whole windows only.
    just_larger = window + 1 if variant[0] == "hat" else 2 * window
    img_size = data.draw(st.sampled_from([0, window, just_larger, 3 * window]), "img_size")
    ours, theirs = pair_for(spandrel_archs, torch.float64, variant, img_size, size)
    image = torch.rand(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        assert_near(ours(image), theirs(image), "output")
