"""The sign of a norm beside its name: a piece of its line with its marker, as figures draw them."""

from __future__ import annotations

from functools import cache

import numpy as np
from markupsafe import Markup
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

from orchestrator.report.styles import Style

WIDTH, HEIGHT = 26, 10
REACH = 4.2  # from the middle of a marker to its farthest point
LINE = 2  # width of the line; dashes are in widths of a line
OPEN = (
    f'<svg class="chip" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
    'aria-hidden="true">'
)
LETTERS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C"}


def chip(style: Style) -> str:
    """The sign as an SVG element, which says nothing: the name stands beside it."""
    return f"{OPEN}{_drawn(style)}</svg>"


class Chips:
    """The signs of one page: each is drawn once, and referred to wherever its norm is named."""

    def __init__(self) -> None:
        self._styles: dict[Style, int] = {}

    def sign(self, style: Style) -> Markup:
        number = self._styles.setdefault(style, len(self._styles))
        return Markup(f'{OPEN}<use href="#chip{number}"/></svg>')  # noqa: S704

    def drawn(self) -> Markup:
        """The drawings that the signs so far refer to."""
        symbols = "".join(
            f'<symbol id="chip{number}" viewBox="0 0 {WIDTH} {HEIGHT}">{_drawn(style)}</symbol>'
            for style, number in self._styles.items()
        )
        return Markup(f'<svg class="sr" aria-hidden="true">{symbols}</svg>')  # noqa: S704


def _drawn(style: Style) -> str:
    pattern = "" if style.dash == "-" else " ".join(f"{LINE * part:g}" for part in style.dash[1])
    dashes = f' stroke-dasharray="{pattern}"' if pattern else ""
    return (
        f'<path d="M0 {HEIGHT / 2:g}h{WIDTH}" stroke="{style.colour}" '
        f'stroke-width="{LINE}"{dashes}/>'
        f'<path d="{marker(style.marker)}" fill="{style.colour}"/>'
    )


@cache
def marker(name: str) -> str:
    """The outline of matplotlib's marker of this name as an SVG path, around a chip's middle."""
    shape = MarkerStyle(name)
    outline = shape.get_path().transformed(shape.get_transform())
    scale = REACH / np.linalg.norm(outline.vertices, axis=1).max()
    parts = []
    for points, code in outline.iter_segments():
        if code == Outline.CLOSEPOLY:
            parts.append("Z")
            continue
        pairs = np.asarray(points).reshape(-1, 2)
        shown = (f"{WIDTH / 2 + scale * x:.4g} {HEIGHT / 2 - scale * y:.4g}" for x, y in pairs)
        parts.append(LETTERS[Outline.code_type(code)] + " ".join(shown))
    return "".join(parts)
