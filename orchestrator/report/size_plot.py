"""The plot of growth against size: a panel for each task and measure, a point for each trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from orchestrator.plan.axes import COMPARED
from orchestrator.report import drawing, live
from orchestrator.report.blocks import INK, Figure
from orchestrator.report.frame import Frame, keyed, where
from orchestrator.report.growth_tables import power_of_10
from orchestrator.report.growths import NormTrend, measures
from orchestrator.report.styles import Style


def drawn(
    frame: Frame,
    styles: dict[str, Style],
    title: str,
    rows: pd.DataFrame,
    trends: Sequence[NormTrend],
) -> Figure:
    """Growth against each measure that varies; `rows` are the trials with their log10 growth."""
    rows = rows.assign(value=rows["log10"].map(power_of_10))
    blocks = keyed(rows, *frame.panels_by)
    shown = measures(frame)
    canvas, panels = drawing.panels(
        len(blocks), len(shown), widest=4.6, share="row", lines_below=1 + rows[COMPARED].nunique()
    )
    titles = {
        "parameters": "parameters",
        **{axis.name: axis.title or axis.name for axis in frame.axes},
    }
    for (labels, block), line in zip(blocks, panels, strict=True):
        for measure, axes in zip(shown, line, strict=True):
            for norm, style in styles.items():
                _draw_sizes(axes, where(block, {COMPARED: norm}), measure, norm, style)
            if not (np.isfinite(block["value"]) & (block["value"] > 0)).any():
                axes.set_ylim(1, 10)  # crosses alone: a log axis cannot span nothing
            axes.set_title(frame.named(frame.panels_by, labels))
            live.is_about(axes, task=str(labels["task"]))
            axes.set_xscale("log")
            _size_ticks(axes, sorted(block[measure].unique()), measure)
            # A logarithmic axis needs a value: where every trial diverged, there is none.
            log = bool(np.isfinite(block["value"]).any())
            label = "growth since step 0" if axes is line[0] else ""
            drawing.finish(axes, titles[measure], label, log=log)
            found = [
                c for c in trends if c.measure == measure and labels.items() <= c.labels.items()
            ]
            drawing.write_below(axes, _said(found, styles))
    drawing.legend(canvas, styles, frame)
    caption = (
        "The largest group's mean square at the last step over that at step 0, against size. Both "
        "axes are logarithmic; a point is a trial, and the line joins the medians over each size's "
        "seeds. \N{GREEK SMALL LETTER RHO} is Spearman's over sizes, with a 95 % interval. "
        + (
            "\N{MULTIPLICATION SIGN} at the top: a trial that diverged, ranked highest."
            if not np.isfinite(rows["value"]).all()
            else ""
        )
    )
    slug, name = drawing.slug_of("size", title), f"Divergence against size, {title}"
    return drawing.figure(canvas, slug, name, caption, styles)


def _draw_sizes(axes: Axes, trials: pd.DataFrame, measure: str, norm: str, style: Style) -> None:
    """Draw one norm: a line through its medians, a point per trial, a cross if it diverged."""
    path = _medians(trials, measure)
    (line,) = axes.plot(
        list(path),
        list(map(power_of_10, path.values())),
        color=style.colour,
        linestyle=style.dash,
        linewidth=1.4,
    )
    live.says(line, "line", norm, ["median of the seeds"])
    finite = np.isfinite(trials["value"]) & (trials["value"] > 0)
    known = trials[finite]
    dots = axes.scatter(known[measure], known["value"], **drawing.dot(style))
    live.says(dots, "dots", norm, [f"seed {seed}, {size}" for seed, size in _seeds(known)])
    gone = trials.loc[~finite, measure]
    (crosses,) = axes.plot(
        gone,
        [0.97] * len(gone),
        "x",
        color=style.colour,
        transform=axes.get_xaxis_transform(),  # the height is a share of the panel's
        markersize=8,
        markeredgewidth=2,
    )
    said = [f"seed {seed}, {size}: diverged" for seed, size in _seeds(trials[~finite])]
    live.says(crosses, "top", norm, said)


def _medians(trials: pd.DataFrame, measure: str) -> dict[float, float]:
    """The median of the medians of each network, by measure, where it is finite."""
    networks: dict[tuple[float, str], list[float]] = {}
    for at, size, value in zip(trials[measure], trials["size"], trials["log10"], strict=True):
        if pd.notna(at) and not math.isnan(value):
            networks.setdefault((at, size), []).append(value)
    sizes: dict[float, list[float]] = {}
    for (at, _), values in sorted(networks.items()):
        sizes.setdefault(at, []).append(median(values))
    path = {at: median(values) for at, values in sizes.items()}
    return {at: value for at, value in path.items() if math.isfinite(value)}


def _seeds(trials: pd.DataFrame) -> Iterator[tuple[Any, str]]:
    return zip(trials["seed"], trials["size"], strict=True)


def _said(found: Sequence[NormTrend], styles: dict[str, Style]) -> list[tuple[str, str]]:
    """The correlation and verdict of each norm; a reason why all lack one is written once."""
    notes = {line.trend.rank.note for line in found if line.trend.rank.rho is None}
    if len(notes) == 1 and all(line.trend.rank.rho is None for line in found):
        return [(INK, notes.pop())]
    return [
        (styles[norm].colour, f"{norm}: {line.trend.rank}; {line.trend.verdict}")
        for line in found
        if (norm := line.labels[COMPARED])
    ]


def _size_ticks(axes: Axes, values: Sequence[float], measure: str) -> None:
    """Tick at the sizes themselves if they are far enough apart, else at the ends and middle."""
    low, high = min(values), max(values)
    apart = all(b / a > (high / low) ** 0.12 for a, b in pairwise(values))
    ticks = values if apart else np.geomspace(low, high, 3)
    margin = max((high / low) ** 0.08, 1.05)  # one size alone still needs an axis around it
    axes.set_xlim(low / margin, high * margin)
    axes.set_xticks(
        ticks, [_count(tick) if measure == "parameters" else f"{tick:.3g}" for tick in ticks]
    )
    axes.xaxis.set_minor_locator(NullLocator())


def _count(value: float) -> str:
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.0f}"
