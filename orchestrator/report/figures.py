"""The plots of a report: feature traces, divergence against size, channel entropy, quality.

Each has a panel for every task and size. A norm looks the same in all of them
(orchestrator.report.drawing).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullLocator

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.states import State
from orchestrator.report import drawing
from orchestrator.report.blocks import INK, Figure, Style
from orchestrator.report.correlation import TRACE, Correlation, by_size, max_over_groups, measures
from orchestrator.report.frame import Frame, keyed, where


def all_figures(
    frame: Frame, divergence: pd.DataFrame, found: Sequence[Correlation]
) -> list[Figure]:
    """Every figure that the data allow, in the order of the page."""
    styles = drawing.norm_styles(frame.names(COMPARED))
    figures: list[Figure] = []
    with matplotlib.rc_context(drawing.RC):
        for labels, trials in keyed(frame.trials, *frame.tables_by):
            part = replace(frame, trials=trials, points=where(frame.points, labels))
            title = frame.named(frame.tables_by, labels)
            rows = where(divergence, labels)
            figures += _trace(part, styles, title)
            if not rows.empty and measures(part, rows):
                ranks = [line for line in found if labels.items() <= line.labels.items()]
                figures.append(_size_plot(part, styles, title, rows, ranks))
            figures += _entropy(part, styles, title)
            figures += _quality(part, styles, title)
            figures += _groups(part, styles, title)
    return figures


def _slug(*parts: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _trace(frame: Frame, styles: dict[str, Style], title: str) -> list[Figure]:
    series = max_over_groups(frame)
    if series.empty:
        return []
    caption = (
        "Mean of x² at the output of each group, on a fixed probe batch in evaluation mode with "
        "raw weights; the largest over the groups, log scale. "
        + _seeds_note(frame, "geometric mean")
        + _diverged_note(frame)
    )
    canvas = _grid(frame, styles, series, "max mean square", log=True)
    return [Figure(_slug("trace", title), f"Feature traces, {title}", caption, drawing.svg(canvas))]


def _entropy(frame: Frame, styles: dict[str, Style], title: str) -> list[Figure]:
    series = frame.metric("feature/entropy_normalised")
    if series.empty:
        return []
    caption = (
        "Entropy of the channels' shares of energy at the last group, H / ln C, computed per image "
        "and then averaged: 1 if all channels carry the same energy, near 0 if a few carry it all. "
        + _seeds_note(frame, "mean")
    )
    canvas = _grid(frame, styles, series, "channel entropy, H / ln C", log=False)
    return [
        Figure(_slug("entropy", title), f"Channel entropy, {title}", caption, drawing.svg(canvas))
    ]


def _quality(frame: Frame, styles: dict[str, Style], title: str) -> list[Figure]:
    figures = []
    loss = frame.metric("train/loss")
    if not loss.empty:
        caption = "L1 training loss, log scale. " + _seeds_note(frame, "geometric mean")
        canvas = _grid(frame, styles, loss, "training loss (L1)", log=True, markers=False)
        figures.append(
            Figure(_slug("loss", title), f"Training loss, {title}", caption, drawing.svg(canvas))
        )
    for dataset in frame.evaluation_sets():
        psnr = frame.metric(f"val/{dataset}/psnr")
        if psnr.groupby("trial")["step"].nunique().max() > 1:
            caption = f"PSNR on {dataset} with the EMA weights while training. " + _seeds_note(
                frame, "mean"
            )
            canvas = _grid(frame, styles, psnr, "PSNR (dB)", log=False)
            figures.append(
                Figure(
                    _slug("psnr", dataset, title),
                    f"PSNR on {dataset}, {title}",
                    caption,
                    drawing.svg(canvas),
                )
            )
    return figures


def _groups(frame: Frame, styles: dict[str, Style], title: str) -> list[Figure]:
    """The traces of every group: a row of panels for each task and size, a column per group."""
    traces = frame.points[frame.points["metric"].str.startswith(TRACE)]
    if traces.empty:
        return []
    groups = sorted({int(name.removeprefix(TRACE)) for name in traces["metric"]})
    rows = [labels for labels, _ in keyed(traces, *frame.panels_by, "size")]
    canvas, panels = drawing.panels(len(rows), len(groups), widest=3.4, share="all")
    for labels, line in zip(rows, panels, strict=True):
        for group, axes in zip(groups, line, strict=True):
            chosen = where(traces, {**labels, "metric": f"{TRACE}{group}"})
            drawing.draw_norms(axes, chosen, styles, log=True, markers=False)
            said = f"{frame.named(frame.panels_by, labels)}, {labels['size']}: group {group}"
            axes.set_title(said, fontsize=8.5)
            drawing.step_axis(
                axes,
                "mean square" if axes is line[0] else "",
                log=True,
                labelled=line is panels[-1],
            )
    drawing.legend(canvas, styles, frame)
    caption = "The same traces for each group, from the first to the last, all on one scale."
    return [
        Figure(
            _slug("groups", title),
            f"Feature traces by group, {title}",
            caption,
            drawing.svg(canvas),
        )
    ]


def _size_plot(
    frame: Frame,
    styles: dict[str, Style],
    title: str,
    rows: pd.DataFrame,
    found: Sequence[Correlation],
) -> Figure:
    blocks = keyed(rows, *frame.panels_by)
    shown = measures(frame, rows)
    canvas, panels = drawing.panels(
        len(blocks), len(shown), widest=4.6, share="row", lines_below=1 + rows[COMPARED].nunique()
    )
    means = by_size(frame, rows)
    titles = {
        "parameters": "parameters",
        **{axis.name: axis.title or axis.name for axis in frame.axes},
    }
    for (labels, block), line in zip(blocks, panels, strict=True):
        step = block["step"].iloc[0]
        said = frame.named(frame.panels_by, labels)
        for measure, axes in zip(shown, line, strict=True):
            medians = where(means, labels)
            for norm, style in styles.items():
                chosen = {COMPARED: norm}
                _draw_sizes(axes, where(block, chosen), where(medians, chosen), measure, style)
            axes.set_title(f"{said}, step {step}")
            axes.set_xscale("log")
            values = sorted(block[measure].unique())
            _size_ticks(axes, values, measure)
            drawing.finish(
                axes, titles[measure], "max mean square" if axes is line[0] else "", log=True
            )
            ranks = [
                c for c in found if c.measure == measure and labels.items() <= c.labels.items()
            ]
            _write_ranks(axes, ranks, styles)
    drawing.legend(canvas, styles, frame)
    caption = (
        "The largest group's mean square at the last step that all completed trials share, "
        "against size. Both axes are logarithmic; a point is a trial, and the line joins the "
        "medians over each size's seeds. \N{GREEK SMALL LETTER RHO} is Spearman's over sizes, "
        "with a 95 % interval. "
        + (
            "\N{MULTIPLICATION SIGN} at the top: a trial that had diverged by then, ranked highest."
            if not np.isfinite(rows["value"]).all()
            else ""
        )
    )
    return Figure(
        _slug("size", title), f"Divergence against size, {title}", caption, drawing.svg(canvas)
    )


def _draw_sizes(
    axes: Axes, trials: pd.DataFrame, medians: pd.DataFrame, measure: str, style: Style
) -> None:
    """Draw one norm: a line through its medians, a point per trial, a cross if it diverged."""
    path = medians.groupby(measure)["log10"].median()
    path = path[np.isfinite(path)]
    axes.plot(path.index, 10**path, color=style.colour, linestyle=style.dash, linewidth=1.4)
    finite = np.isfinite(trials["value"]) & (trials["value"] > 0)
    axes.scatter(trials.loc[finite, measure], trials.loc[finite, "value"], **drawing.dot(style))
    gone = trials.loc[~finite, measure]
    axes.plot(
        gone,
        [0.97] * len(gone),
        "x",
        color=style.colour,
        transform=axes.get_xaxis_transform(),  # the height is a share of the panel's
        markersize=8,
        markeredgewidth=2,
    )


def _write_ranks(axes: Axes, found: Sequence[Correlation], styles: dict[str, Style]) -> None:
    """Write the correlations under the panel; a reason why all lack one is written once."""
    notes = {line.rank.note for line in found if line.rank.rho is None}
    same = len(notes) == 1 and all(line.rank.rho is None for line in found)
    texts = (
        [(INK, notes.pop())]
        if same
        else [
            (styles[norm].colour, f"{norm}: {line.rank}")
            for line in found
            if (norm := line.labels[COMPARED])
        ]
    )
    for i, (colour, text) in enumerate(texts):
        axes.annotate(
            text,
            (0, 0),
            (0, -38 - drawing.LINE_PT * i),
            "axes fraction",
            "offset points",
            color=colour,
            fontsize=8,
            va="top",
        )


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


def _grid(
    frame: Frame,
    styles: dict[str, Style],
    series: pd.DataFrame,
    label: str,
    *,
    log: bool,
    markers: bool = True,
) -> Canvas:
    """A panel for each size, one task (and recipe) after the other, with one curve per norm.

    At most four panels are in a row.
    """
    blocks = [labels for labels, _ in keyed(frame.trials, *frame.panels_by)]
    sizes = frame.names("size")
    columns = min(4, len(sizes))
    lines = -(-len(sizes) // columns)
    canvas, panels = drawing.panels(lines * len(blocks), columns, widest=4.6, share="row")
    for i, labels in enumerate(blocks):
        said = frame.named(frame.panels_by, labels)
        block = [axes for line in panels[i * lines : (i + 1) * lines] for axes in line]
        for axes in block[len(sizes) :]:
            axes.remove()
        for j, (size, axes) in enumerate(zip(sizes, block, strict=False)):
            chosen = where(series, {**labels, "size": size})
            drawing.draw_norms(axes, chosen, styles, log=log, markers=markers)
            if log:
                drawing.mark_divergence(axes, frame, chosen, styles)
            axes.set_title(f"{said}, {size}")
            if chosen.empty:
                axes.text(0.5, 0.5, "no data yet", transform=axes.transAxes, ha="center", alpha=0.6)
            last = i == len(blocks) - 1 and j + columns >= len(sizes)
            drawing.step_axis(
                axes, label if j % columns == 0 else "", log=log and not chosen.empty, labelled=last
            )
    drawing.legend(canvas, styles, frame)
    return canvas


def _seeds_note(frame: Frame, average: str) -> str:
    return f"Thin: {frame.repeats} seeds; thick: their {average}. " if frame.repeats > 1 else ""


def _diverged_note(frame: Frame) -> str:
    return (
        "\N{MULTIPLICATION SIGN} marks the last finite value of a trial that diverged. "
        if (frame.trials["state"] == State.DIVERGED).any()
        else ""
    )
