"""Draws the plots: lines, panels, axes and legend, and the final SVG.

Ink (text, axes, grid) is drawn in one stand-in colour, which is replaced by the text colour in the
page and by a dark grey in files. Text stays text: it can be selected, searched and read aloud.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from io import StringIO
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.states import State
from orchestrator.report import live
from orchestrator.report.blocks import INK, Figure
from orchestrator.report.columns import numbered
from orchestrator.report.frame import Frame, keyed, parts
from orchestrator.report.styles import Style

RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "normsweep",  # fixed, so that the same plot has the same ids
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # where it would be anyway, but found without measuring the ticks
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "path.simplify": False,  # the page reads values off the curves
}
PAGE_IN = 11.5
MOST_PANELS = 16  # of a figure, where that leaves two sizes of each task
MANY_PANELS = 6  # fitting the layout of more takes seconds
LINE_PT = 11
# Attributes in points, of which a hundredth cannot be seen. Texts keep their digits.
PLACES = re.compile(r'\s(?:d|x|y|transform)="[^"]*"')
DECIMALS = re.compile(r"(?<=\d\.\d\d)\d+")


def draw_norms(
    axes: Axes, series: pd.DataFrame, styles: dict[str, Style], *, log: bool, markers: bool
) -> None:
    """Draw each norm's average as a thick line and its trials, if several, as thin ones."""
    trial, _ = numbered(series["trial"], in_order=True)
    step, value, seed = (series[name].to_numpy() for name in ("step", "value", "seed"))
    is_drawn = np.isfinite(value) & ((value > 0) | (not log))
    for norm, style in styles.items():
        rows = np.flatnonzero(is_drawn & (series[COMPARED] == norm).to_numpy())
        if not len(rows):
            continue
        rows = rows[np.lexsort((step[rows], trial[rows]))]
        ends = np.flatnonzero(np.diff(trial[rows])) + 1
        seeds = [f"seed {one}" for one in seed[rows[[0, *ends]]]]
        if len(ends):  # drawn as one line with gaps, since every line takes a millisecond
            thin = (
                np.insert(column[rows].astype(float), ends, math.nan) for column in (step, value)
            )
            (line,) = axes.plot(*thin, color=style.colour, linewidth=0.7, alpha=0.4)
            live.says(line, "lines", norm, seeds)
        steps, at, counts = np.unique(step[rows], return_inverse=True, return_counts=True)
        mean = np.bincount(at, np.log(value[rows]) if log else value[rows]) / counts
        # Only steps that all trials have: an average over fewer would jump where one of them ends.
        complete = counts == len(ends) + 1
        drawn = complete if complete.any() else counts > 0
        every = max(1, int(drawn.sum()) // 5)
        (line,) = axes.plot(
            steps[drawn],
            np.exp(mean[drawn]) if log else mean[drawn],
            color=style.colour,
            linestyle=style.dash,
            linewidth=1.7,
            marker=style.marker if markers else None,
            markersize=4,
            markevery=every,
        )
        average = "geometric mean" if log else "mean"
        named = f"{average} of {len(seeds)} seeds" if len(seeds) > 1 else seeds[0]
        live.says(line, "line", norm, [named])


def mark_divergence(
    axes: Axes, frame: Frame, series: pd.DataFrame, styles: dict[str, Style]
) -> None:
    """Mark the last finite value of each trial that diverged."""
    diverged = set(frame.trials.loc[frame.trials["state"] == State.DIVERGED, "trial"])
    for _, curve in parts(series[series["trial"].isin(diverged)], "trial"):
        finite = curve[np.isfinite(curve["value"]) & (curve["value"] > 0)].sort_values("step")
        if not finite.empty:
            last = finite.iloc[-1]
            (cross,) = axes.plot(
                last["step"],
                last["value"],
                "x",
                color=styles[last[COMPARED]].colour,
                markersize=9,
                markeredgewidth=2,
            )
            live.says(cross, "dots", str(last[COMPARED]), [f"seed {last['seed']}, then diverged"])


def slug_of(*parts: str) -> str:
    """A name for a file and an anchor, from any text."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def write_below(axes: Axes, texts: Sequence[tuple[str, str]]) -> None:
    """Write lines of text under a panel and its axis, each after a dot in its colour.

    Small text in the colours themselves would have too little contrast.
    """
    for i, (colour, text) in enumerate(texts):
        parts = (
            [(INK, text, 0)] if colour == INK else [(colour, "\N{BLACK CIRCLE}", 0), (INK, text, 9)]
        )
        for of_part, said, right in parts:
            axes.annotate(
                said,
                (0, 0),
                (right, -38 - LINE_PT * i),
                "axes fraction",
                "offset points",
                color=of_part,
                fontsize=8,
                va="top",
            )


def dot(style: Style) -> dict[str, Any]:
    return {"color": style.colour, "marker": style.marker, "s": 26, "zorder": 3}


def sizes_drawn(frame: Frame) -> list[Any]:
    """All sizes, or evenly spaced ones with the first and the last if panels would be too many."""
    sizes, blocks = frame.names("size"), len(keyed(frame.trials, *frame.panels_by))
    most = max(2, MOST_PANELS // 2 // max(1, blocks))
    if len(sizes) * blocks <= MOST_PANELS or len(sizes) <= most:
        return sizes
    return [sizes[i] for i in np.linspace(0, len(sizes) - 1, most).round().astype(int)]


def sizes_note(frame: Frame) -> str:
    """A sentence if not all sizes are drawn, else ""."""
    drawn, sizes = sizes_drawn(frame), frame.names("size")
    return f"{len(drawn)} of {len(sizes)} sizes are drawn. " if len(drawn) < len(sizes) else ""


def panels(
    rows: int, columns: int, *, widest: float, share: Literal["row", "all"], lines_below: int = 0
) -> tuple[Canvas, list[list[Axes]]]:
    """Panels as wide as the page allows, up to `widest` inches each.

    `lines_below`: lines of text that need room under each panel.
    """
    width = max(2.3, min(widest, PAGE_IN / columns))
    height = 0.28 + 0.55 * width if width > 3 else 0.75 * width
    height += lines_below * LINE_PT / 72
    canvas = Canvas(figsize=(width * columns, height * rows + 0.35))
    if rows * columns <= MANY_PANELS:
        canvas.set_layout_engine("constrained", h_pad=0.08, w_pad=0.08)
    panels = canvas.subplots(rows, columns, squeeze=False, sharey=share)
    if rows * columns > MANY_PANELS:
        _lay_out(canvas, rows, columns, lines_below)
    return canvas, [list(line) for line in panels]


def _lay_out(canvas: Canvas, rows: int, columns: int, lines_below: int) -> None:
    """Give panels fixed room (inches) for labels. To fit it to them takes longer than drawing."""
    left, right, top, bottom, gap = 0.6, 0.1, 0.25, 0.45 + lines_below * LINE_PT / 72, 0.2
    width, height = canvas.get_size_inches()
    of_one = (width - left - right - gap * (columns - 1)) / columns
    high = (height - 0.35) / rows - top - bottom
    canvas.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - (0.35 + top) / height,  # the legend is above
        bottom=bottom / height,
        wspace=gap / of_one,
        hspace=(top + bottom) / high,
    )
    for axes in canvas.axes:
        axes.xaxis.set_label_coords(0.5, -0.3 / high)
        axes.yaxis.set_label_coords(-0.45 / of_one, 0.5)


def finish(axes: Axes, label_x: str, label_y: str, *, log: bool) -> None:
    axes.set_xlabel(label_x)
    axes.set_ylabel(label_y)
    if log:
        axes.set_yscale("log")
        _log_ticks(axes)


def step_axis(axes: Axes, label_y: str, *, log: bool, labelled: bool) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    finish(axes, "step" if labelled else "", label_y, log=log)


def _log_ticks(axes: Axes) -> None:
    """Tick at decades if there are enough, else at 1-2-5 steps, so that two ticks have numbers."""
    low, high = axes.get_ylim()
    subs = (1.0,) if high / max(low, 1e-300) > 300 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    figure = axes.get_figure()
    if figure is not None and figure.get_layout_engine() is None:  # many small panels
        axes.yaxis.set_minor_locator(NullLocator())


def legend(canvas: Canvas, styles: dict[str, Style], frame: Frame) -> None:
    lines = [
        Line2D(
            [],
            [],
            color=s.colour,
            linestyle=s.dash,
            marker=s.marker,
            markersize=4,
            linewidth=1.7,
            label=norm,
        )
        for norm, s in styles.items()
        if norm in set(frame.trials[COMPARED])
    ]
    canvas.legend(
        handles=lines,
        loc="outside upper left",
        ncols=6,
        fontsize=9,
        handlelength=2.6,
        borderaxespad=0,
    )


def figure(canvas: Canvas, slug: str, title: str, caption: str, styles: dict[str, Style]) -> Figure:
    """The finished plot as a block."""
    panels = live.numbered(canvas)
    _leave_out_unseen_ticks(canvas)
    drawn = svg(canvas)
    return Figure(slug, title, caption, drawn, live.described(canvas, panels, styles))


def _leave_out_unseen_ticks(canvas: Canvas) -> None:
    """Keep the ticks of the part of an axis that is shown: of all, that is half, each slow to make.

    Call it when everything is drawn. Ticks that have been set one by one stay.
    """
    for axis in (axis for axes in canvas.axes for axis in (axes.xaxis, axes.yaxis)):
        if not isinstance(axis.get_major_locator(), FixedLocator):
            low, high = sorted(axis.get_view_interval())
            ticks = np.asarray(axis.get_majorticklocs())
            margin = 1e-9 * (high - low)
            seen = (ticks >= low - margin) & (ticks <= high + margin)
            axis.set_major_locator(FixedLocator(ticks[seen].tolist()))


def svg(canvas: Canvas) -> str:
    """The canvas as SVG, without a date, so that the same plot gives the same text."""
    text = StringIO()
    canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return PLACES.sub(lambda place: DECIMALS.sub("", place[0]), text.getvalue())
