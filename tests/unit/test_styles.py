"""Norms can be told apart by colour, marker and dash, and their signs are those of figures."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.markers import MarkerStyle
from numpy.typing import NDArray

from orchestrator.report.chips import Chips, chip, marker
from orchestrator.report.styles import SPARE, STYLES, norm_styles

NORMS = [*STYLES, *(f"own_{i}" for i in range(len(SPARE)))]
# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB.
SEEN_AS = {
    "full colour": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750]]
TO_XYZ += [[0.0193339, 0.1191920, 0.9503041]]
APART = 11.0  # in CIELAB; 2.3 can just be seen


def linear(colour: str) -> NDArray[np.float64]:
    """sRGB without its gamma (IEC 61966-2-1)."""
    of = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(of <= 0.04045, of / 12.92, ((of + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB under D65 of linear RGB."""
    xyz = np.array(TO_XYZ) @ np.clip(rgb, 0, 1) / [0.95047, 1.0, 1.08883]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SEEN_AS)
def test_no_two_norms_look_alike(eyes: str) -> None:
    styles = norm_styles(NORMS)
    for one, other in combinations(NORMS, 2):
        a, b = styles[one], styles[other]
        seen = [lab(np.array(SEEN_AS[eyes]) @ linear(style.colour)) for style in (a, b)]
        far = np.linalg.norm(seen[0] - seen[1])
        assert far >= APART or (a.marker != b.marker and a.dash != b.dash), (one, other, far)


def test_no_two_norms_have_one_marker() -> None:
    markers = [style.marker for style in norm_styles(NORMS).values()]
    assert len(markers) == len(set(markers))


def test_after_the_last_colour_the_first_comes_with_another_marker_and_dash() -> None:
    styles = list(norm_styles([f"own_{i}" for i in range(2 * len(SPARE))]).values())
    assert len(set(map(str, styles))) == len(styles)


def test_every_colour_has_contrast_on_white_and_near_black() -> None:
    for style in norm_styles(NORMS).values():
        luminance = float(np.array([0.2126, 0.7152, 0.0722]) @ linear(style.colour))
        dark = float(np.array([0.2126, 0.7152, 0.0722]) @ linear("#15181b"))
        assert 1.05 / (luminance + 0.05) >= 3, style.colour
        assert (luminance + 0.05) / (dark + 0.05) >= 3, style.colour


def test_the_sign_of_a_norm_has_the_marker_and_dash_of_its_line() -> None:
    for style in norm_styles(NORMS).values():
        shape = MarkerStyle(style.marker)
        drawn = shape.get_path().transformed(shape.get_transform()).vertices
        shown = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", marker(style.marker)), dtype=float)
        shown = (shown - [13, 5]) * [1, -1]
        scale = np.linalg.norm(shown, axis=1).max() / np.linalg.norm(drawn, axis=1).max()
        for point in shown:
            assert np.linalg.norm(drawn * scale - point, axis=1).min() < 0.01, style.marker
        sign = chip(style)
        assert style.colour in sign
        assert ("stroke-dasharray" in sign) == (style.dash != "-")


def test_signs_of_one_page_are_drawn_once() -> None:
    chips, styles = Chips(), norm_styles(NORMS)
    signs = [chips.sign(styles[norm]) for norm in (*NORMS, *NORMS)]
    assert signs[: len(NORMS)] == signs[len(NORMS) :]
    assert chips.drawn().count("<symbol") == len(NORMS)
    assert set(re.findall(r'href="#(\w+)"', "".join(signs))) == set(
        re.findall(r' id="(\w+)"', chips.drawn())
    )
