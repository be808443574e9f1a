"""What the page's script needs to know of a plot: where its axes are, and what its marks stand for.

While a plot is drawn, `says` and `is_about` note on its parts what they show. `numbered` then gives
these parts short ids, which their groups have in the SVG, and `described` says what the ids mean.
The values are not written a second time: the script reads them off the marks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from orchestrator.report.chips import chip
from orchestrator.report.styles import Style

POINTS_PER_INCH = 72  # of matplotlib's SVG
# `line`: one curve. `lines`: a curve for each label, with gaps between them. `dots`: a point for
# each label. `top`: a cross for each label, whose height says nothing.
Kind = Literal["line", "lines", "dots", "top"]


def says(artist: Artist, kind: Kind, norm: str, labels: Sequence[str]) -> None:
    """Note that an artist shows a norm; `labels` name its curves or points in order."""
    artist.set_gid(json.dumps([kind, norm, *labels]))


def is_about(axes: Axes, **facets: str) -> None:
    """Note the task and the size of a panel."""
    axes.set_gid(json.dumps(facets))


def numbered(canvas: Canvas) -> list[dict[str, Any]]:
    """Give what has a note a short id; returns each panel's facets and marks by their ids."""
    panels = []
    for i, axes in enumerate(canvas.axes):
        facets, marks = axes.get_gid(), list[Any]()
        for artist in axes.get_children():
            if (note := artist.get_gid()) is not None:
                artist.set_gid(f"m{i}-{len(marks)}")
                marks.append([artist.get_gid(), *json.loads(note)])
        axes.set_gid(f"panel{i}")
        panels.append(
            {"id": f"panel{i}", "about": json.loads(facets) if facets else {}, "marks": marks}
        )
    return panels


def described(
    canvas: Canvas, panels: Sequence[Mapping[str, Any]], styles: Mapping[str, Style]
) -> str:
    """The plot as JSON, after it was drawn: boxes in units of the SVG, and limits of the axes.

    `steps` are all values along x, to which the script rounds what it reads off.
    """
    shown = {mark[2] for panel in panels for mark in panel["marks"]}
    data = {
        "keys": [[norm, chip(style)] for norm, style in styles.items() if norm in shown],
        "steps": _steps(canvas),
        "panels": [
            {**panel, **_placed(canvas, axes)}
            for axes, panel in zip(canvas.axes, panels, strict=True)
        ],
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _placed(canvas: Canvas, axes: Axes) -> dict[str, Any]:
    width, height = (POINTS_PER_INCH * inches for inches in canvas.get_size_inches())
    box = axes.get_position()
    labels_x = [axes.get_xlabel(), *(other.get_xlabel() for other in canvas.axes), ""]
    labels_y = [axes.get_ylabel(), *(other.get_ylabel() for other in canvas.axes), ""]
    edges = (box.x0 * width, (1 - box.y1) * height, box.x1 * width, (1 - box.y0) * height)
    return {
        "title": axes.get_title(loc="left"),
        "box": [round(edge, 3) for edge in edges],
        "x": [*map(float, axes.get_xlim()), axes.get_xscale(), next(filter(None, labels_x), "")],
        "y": [*map(float, axes.get_ylim()), axes.get_yscale(), next(filter(None, labels_y), "")],
    }


def _steps(canvas: Canvas) -> list[float]:
    """Every finite value along x, in order."""
    found = [np.empty(0)]
    for artist in (one for axes in canvas.axes for one in axes.get_children()):
        if artist.get_gid() is None:
            continue
        if isinstance(artist, Line2D):
            found.append(np.asarray(artist.get_xdata(), dtype=float))
        elif isinstance(artist, PathCollection):
            found.append(np.asarray(artist.get_offsets(), dtype=float)[:, 0])
    steps = np.unique(np.concatenate(found))
    return [int(step) if step.is_integer() else step for step in steps[np.isfinite(steps)].tolist()]
