"""How norms are drawn: each has a colour, a marker and a dash, the same in figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Style:
    """How a norm is drawn, in every figure and beside its name."""

    colour: str
    marker: str
    dash: Any


# Okabe and Ito's palette, with blue and purple lightened so that the contrast of every colour is at
# least 3:1 against both white and near-black.
STYLES = {
    "layer_norm": Style("#d55e00", "o", "-"),
    "rms_norm": Style("#009e73", "s", (0, (5, 1.6))),
    "i_ln": Style("#1f80c8", "D", "-"),
}
SPARE_COLOURS = ("#b8629b", "#a88500", "#6f7d8c", "#7c62c8", "#8f5a3c", "#3a9aa8")
SPARE_MARKERS = ("^", "v", "P", "X", "<", ">")
SPARE_DASHES = ((0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)), "-", (0, (3, 1)))


def norm_styles(norms: Sequence[str]) -> dict[str, Style]:
    """The style of each norm; those without a fixed one get the spare styles in file order."""
    others = [norm for norm in norms if norm not in STYLES]
    spare = {
        norm: Style(
            SPARE_COLOURS[i % len(SPARE_COLOURS)],
            SPARE_MARKERS[i % len(SPARE_MARKERS)],
            SPARE_DASHES[i % len(SPARE_DASHES)],
        )
        for i, norm in enumerate(others)
    }
    return {norm: STYLES.get(norm) or spare[norm] for norm in norms}
