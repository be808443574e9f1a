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


# The first three are from Okabe and Ito's palette, blue lightened; the others were searched for.
# The contrast of each is at least 3:1 against both white and near-black, and no two are closer than
# 11 in CIELAB, also as a deuteranope or a protanope sees them (Machado et al. 2009).
STYLES = {
    "layer_norm": Style("#d55e00", "o", "-"),
    "rms_norm": Style("#009e73", "s", (0, (5, 1.6))),
    "i_ln": Style("#1f80c8", "D", "-"),
}
SPARE = (
    Style("#8a3ffc", "^", (0, (1, 1.4))),
    Style("#ab80a6", "v", (0, (6, 1.5, 1, 1.5))),
    Style("#de0037", "P", (0, (3, 1))),
    Style("#6a7842", "X", (0, (8, 2))),
    Style("#bf2fa7", "<", "-"),
    Style("#486c82", ">", (0, (5, 1.4, 1, 1.4, 1, 1.4))),
    Style("#78615a", "h", (0, (2, 1.6))),
)


def norm_styles(norms: Sequence[str]) -> dict[str, Style]:
    """The style of each norm; those without a fixed one get the spare styles in file order.

    After the last colour the first follows, with the marker and dash of the next round.
    """
    others = [norm for norm in norms if norm not in STYLES]
    spare = {norm: _spare(i) for i, norm in enumerate(others)}
    return {norm: STYLES.get(norm) or spare[norm] for norm in norms}


def _spare(i: int) -> Style:
    turn, place = divmod(i, len(SPARE))
    shape = SPARE[(place + turn) % len(SPARE)]
    return Style(SPARE[place].colour, shape.marker, shape.dash)
