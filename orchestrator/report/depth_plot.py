"""What probes measured from place to place: a figure for each kind of scalar, along the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from orchestrator.plan.axes import COMPARED
from orchestrator.report import drawing, live
from orchestrator.report.blocks import Figure
from orchestrator.report.frame import Frame, keyed
from orchestrator.report.observations import Observed, in_order
from orchestrator.report.styles import Style

WIDE = 30  # largest over smallest, from which on the scale is logarithmic
MOST_IN_A_ROW = 4


def drawn(
    frame: Frame, styles: dict[str, Style], title: str, found: Sequence[Observed]
) -> list[Figure]:
    """A figure for each kind of scalar that has places."""
    kinds = dict.fromkeys(line.kind for line in found if line.place and line.values)
    return [
        _figure(frame, styles, title, kind, [line for line in found if line.kind == kind])
        for kind in kinds
    ]


def _figure(
    frame: Frame, styles: dict[str, Style], title: str, kind: str, found: Sequence[Observed]
) -> Figure:
    sizes = drawing.sizes_drawn(frame)
    blocks = [
        labels
        for labels, _ in keyed(frame.trials, *frame.panels_by, "size")
        if labels["size"] in sizes
    ]
    columns = min(MOST_IN_A_ROW, len(sizes))
    canvas, panels = drawing.panels(-(-len(blocks) // columns), columns, widest=4.6, share="row")
    axes_in_order = [axes for line in panels for axes in line]
    values = [v for line in found if line.place for v in line.values.values() if math.isfinite(v)]
    log = bool(values) and min(values) > 0 and max(values) > WIDE * min(values)
    seeds = dict(zip(frame.trials["trial"], frame.trials["seed"], strict=True))
    for axes in axes_in_order[len(blocks) :]:
        axes.remove()
    for i, (labels, axes) in enumerate(zip(blocks, axes_in_order, strict=False)):
        here = [
            line for line in found if labels.items() <= {**line.labels, "size": line.size}.items()
        ]
        _draw(axes, here, styles, seeds, log=log)
        live.is_about(axes, task=str(labels["task"]), size=labels["size"])
        words = frame.size_words[labels["size"]]
        axes.set_title(f"{frame.named(frame.panels_by, labels)}, {words}")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        below = i + columns >= len(blocks)
        drawing.finish(axes, "place" if below else "", kind if i % columns == 0 else "", log=log)
    drawing.legend(canvas, styles, frame)
    average = "geometric mean" if log else "mean"
    caption = (
        f"Final values of {kind} along the network, from its first group to its last: "
        f"{_places(found)}. "
        + (f"Thin: seeds; thick: their {average}. " if frame.repeats > 1 else "")
        + drawing.sizes_note(frame)
    )
    slug = drawing.slug_of("depth", kind, title)
    return drawing.figure(canvas, slug, f"{kind} by depth, {title}", caption, styles)


def _draw(
    axes: Axes,
    found: Sequence[Observed],
    styles: dict[str, Style],
    seeds: Mapping[str, Any],
    *,
    log: bool,
) -> None:
    places = sorted({line.place for line in found if line.place and line.values}, key=in_order)
    rows = [
        {
            COMPARED: line.labels[COMPARED],
            "trial": trial,
            "seed": seeds[trial],
            "step": places.index(line.place),
            "value": value,
        }
        for line in found
        if line.place in places
        for trial, value in line.values.items()
    ]
    series = pd.DataFrame(rows, columns=[COMPARED, "trial", "seed", "step", "value"])
    if series.empty:
        axes.text(0.5, 0.5, "no data yet", transform=axes.transAxes, ha="center", alpha=0.6)
        return
    drawing.draw_norms(axes, series, styles, log=log, markers=True)


def _places(found: Sequence[Observed]) -> str:
    """`0 is group_0/block_0, 11 is group_1/block_5` of the network with most places."""
    places = sorted({line.place for line in found if line.place and line.values}, key=in_order)
    if len(places) == 1:
        return f"0 is {places[0]}"
    return f"0 is {places[0]}, {len(places) - 1} is {places[-1]}"
