"""The plots of a report: feature traces, divergence against size, channel entropy, quality while training.

Every one has a panel for each task and size; a norm looks the same in all of them (orchestrator.report.drawing).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullLocator

from orchestrator.report import drawing
from orchestrator.report.correlation import TRACE, Correlation, by_size, max_over_groups, measures
from orchestrator.report.drawing import Figure, Style
from orchestrator.report.frame import Frame, parts


def all_figures(frame: Frame, divergence: pd.DataFrame, found: Sequence[Correlation]) -> list[Figure]:
    """Every figure that the data allow, in the order of the page."""
    styles = drawing.norm_styles(frame.names("norm"))
    figures: list[Figure] = []
    with matplotlib.rc_context(drawing.RC):
        for backbone in frame.names("backbone"):
            part = _part(frame, backbone)
            rows = divergence[divergence["backbone"] == backbone]
            figures += _trace(part, styles, backbone)
            if not rows.empty and measures(rows):
                figures.append(_size_plot(part, styles, backbone, rows, [c for c in found if c.backbone == backbone]))
            figures += _entropy(part, styles, backbone)
            figures += _quality(part, styles, backbone)
            figures += _groups(part, styles, backbone)
    return figures


def _part(frame: Frame, backbone: str) -> Frame:
    points, trials = frame.points, frame.trials
    return Frame(trials[trials["backbone"] == backbone], points[points["backbone"] == backbone])


def _slug(*parts: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _trace(frame: Frame, styles: dict[str, Style], backbone: str) -> list[Figure]:
    series = max_over_groups(frame)
    if series.empty:
        return []
    caption = (
        "Mean of x² at the output of each group on a fixed probe batch in evaluation mode, raw weights; the largest "
        "group, log scale. " + _seeds_note(frame, "geometric mean") + _diverged_note(frame)
    )
    canvas = _grid(frame, styles, series, "max mean square", log=True)
    return [Figure(_slug("trace", backbone), f"Feature traces, {backbone}", caption, drawing.svg(canvas))]


def _entropy(frame: Frame, styles: dict[str, Style], backbone: str) -> list[Figure]:
    series = frame.metric("feature/entropy_normalised")
    if series.empty:
        return []
    caption = (
        "Entropy of the channels' share of energy at the last group, H / ln C, per image and then averaged: 1 where "
        "all channels carry the same energy, near 0 where a few carry it all. " + _seeds_note(frame, "mean")
    )
    canvas = _grid(frame, styles, series, "channel entropy, H / ln C", log=False)
    return [Figure(_slug("entropy", backbone), f"Channel entropy, {backbone}", caption, drawing.svg(canvas))]


def _quality(frame: Frame, styles: dict[str, Style], backbone: str) -> list[Figure]:
    figures = []
    loss = frame.metric("train/loss")
    if not loss.empty:
        caption = "L1 training loss, log scale. " + _seeds_note(frame, "geometric mean")
        canvas = _grid(frame, styles, loss, "training loss (L1)", log=True, markers=False)
        figures.append(Figure(_slug("loss", backbone), f"Training loss, {backbone}", caption, drawing.svg(canvas)))
    for dataset in frame.evaluation_sets():
        psnr = frame.metric(f"val/{dataset}/psnr")
        if psnr.groupby("trial")["step"].nunique().max() > 1:
            caption = f"PSNR on {dataset} with the EMA weights while training. " + _seeds_note(frame, "mean")
            canvas = _grid(frame, styles, psnr, "PSNR (dB)", log=False)
            figures.append(
                Figure(_slug("psnr", dataset, backbone), f"PSNR on {dataset}, {backbone}", caption, drawing.svg(canvas))
            )
    return figures


def _groups(frame: Frame, styles: dict[str, Style], backbone: str) -> list[Figure]:
    """Per group, one row of panels for each task and size."""
    traces = frame.points[frame.points["metric"].str.startswith(TRACE)]
    if traces.empty:
        return []
    groups = sorted({int(name.removeprefix(TRACE)) for name in traces["metric"]})
    rows = [key for key, _ in parts(traces, "task", "size")]
    canvas, panels = drawing.panels(len(rows), len(groups), widest=3.4, share="all")
    for (task, size), line in zip(rows, panels, strict=True):
        for group, axes in zip(groups, line, strict=True):
            chosen = (traces["task"] == task) & (traces["size"] == size) & (traces["metric"] == f"{TRACE}{group}")
            drawing.draw_norms(axes, traces[chosen], styles, log=True, markers=False)
            axes.set_title(f"{task}, {size}: group {group}", fontsize=8.5)
            drawing.step_axis(axes, "mean square" if axes is line[0] else "", log=True, labelled=line is panels[-1])
    drawing.legend(canvas, styles, frame)
    caption = "The same traces group by group, from the first to the last; one scale throughout."
    return [Figure(_slug("groups", backbone), f"Feature traces by group, {backbone}", caption, drawing.svg(canvas))]


def _size_plot(
    frame: Frame, styles: dict[str, Style], backbone: str, rows: pd.DataFrame, found: Sequence[Correlation]
) -> Figure:
    tasks = list(dict.fromkeys(rows["task"]))
    shown = measures(rows)
    canvas, panels = drawing.panels(
        len(tasks), len(shown), widest=4.6, share="row", lines_below=1 + len(set(rows["norm"]))
    )
    means = by_size(rows)
    for task, line in zip(tasks, panels, strict=True):
        step = rows.loc[rows["task"] == task, "step"].iloc[0]
        for measure, axes in zip(shown, line, strict=True):
            for norm, style in styles.items():
                trials = rows[(rows["task"] == task) & (rows["norm"] == norm)]
                path = means[(means["task"] == task) & (means["norm"] == norm)].groupby(measure)["log10"].median()
                path = path[np.isfinite(path)]
                axes.plot(path.index, 10**path, color=style.colour, linestyle=style.dash, linewidth=1.4)
                finite = np.isfinite(trials["value"]) & (trials["value"] > 0)
                axes.scatter(trials.loc[finite, measure], trials.loc[finite, "value"], **drawing.dot(style))
                gone = trials.loc[~finite, measure]
                top = axes.get_xaxis_transform()
                axes.plot(
                    gone, [0.97] * len(gone), "x", color=style.colour, transform=top, markersize=8, markeredgewidth=2
                )
            axes.set_title(f"{task}, step {step}")
            axes.set_xscale("log")
            values = sorted(rows.loc[rows["task"] == task, measure].unique())
            _size_ticks(axes, values, measure)
            drawing.finish(axes, _measure_label(measure), "max mean square" if axes is line[0] else "", log=True)
            _write_ranks(axes, [c for c in found if c.task == task and c.measure == measure], styles)
    drawing.legend(canvas, styles, frame)
    caption = (
        "Largest group's mean square at the last step that all completed trials share, against size; both axes "
        "logarithmic, a point per trial, a line through the sizes' medians over seeds. \N{GREEK SMALL LETTER RHO} is "
        "Spearman's over sizes, with a 95 % interval. "
        + (
            "\N{MULTIPLICATION SIGN} at the top: diverged by then, ranks highest."
            if not np.isfinite(rows["value"]).all()
            else ""
        )
    )
    return Figure(_slug("size", backbone), f"Divergence against size, {backbone}", caption, drawing.svg(canvas))


def _write_ranks(axes: Axes, found: Sequence[Correlation], styles: dict[str, Style]) -> None:
    """The correlations under the panel, or the reason once where all have the same one."""
    notes = {line.rank.note for line in found if line.rank.rho is None}
    same = len(notes) == 1 and all(line.rank.rho is None for line in found)
    texts = (
        [(drawing.INK, notes.pop())]
        if same
        else [(styles[line.norm].colour, f"{line.norm}: {line.rank}") for line in found]
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


def _measure_label(measure: str) -> str:
    return {"width": "width (embed_dim)"}.get(measure, measure)


def _size_ticks(axes: Axes, values: Sequence[float], measure: str) -> None:
    """The sizes themselves where they are few and apart, else the ends and the middle."""
    low, high = min(values), max(values)
    apart = all(b / a > (high / low) ** 0.12 for a, b in pairwise(values))
    ticks = values if apart else np.geomspace(low, high, 3)
    margin = max((high / low) ** 0.08, 1.05)  # one size alone still needs an axis around it
    axes.set_xlim(low / margin, high * margin)
    axes.set_xticks(ticks, [_count(tick) if measure == "parameters" else f"{tick:.3g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def _count(value: float) -> str:
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.0f}"


def _grid(
    frame: Frame, styles: dict[str, Style], series: pd.DataFrame, label: str, *, log: bool, markers: bool = True
) -> Canvas:
    """Panels for the sizes of one task after the other, at most four in a row; one curve per norm."""
    tasks, sizes = frame.names("task"), frame.names("size")
    columns = min(4, len(sizes))
    lines = -(-len(sizes) // columns)
    canvas, panels = drawing.panels(lines * len(tasks), columns, widest=4.6, share="row")
    for i, task in enumerate(tasks):
        block = [axes for line in panels[i * lines : (i + 1) * lines] for axes in line]
        for axes in block[len(sizes) :]:
            axes.remove()
        for j, (size, axes) in enumerate(zip(sizes, block, strict=False)):
            chosen = series[(series["task"] == task) & (series["size"] == size)]
            drawing.draw_norms(axes, chosen, styles, log=log, markers=markers)
            if log:
                drawing.mark_divergence(axes, frame, chosen, styles)
            axes.set_title(f"{task}, {size}")
            if chosen.empty:
                axes.text(0.5, 0.5, "no data yet", transform=axes.transAxes, ha="center", alpha=0.6)
            last = i == len(tasks) - 1 and j + columns >= len(sizes)
            drawing.step_axis(axes, label if j % columns == 0 else "", log=log and not chosen.empty, labelled=last)
    drawing.legend(canvas, styles, frame)
    return canvas


def _seeds_note(frame: Frame, average: str) -> str:
    seeds = frame.trials["seed"].nunique()
    return f"Thin: {seeds} seeds; thick: their {average}. " if seeds > 1 else ""


def _diverged_note(frame: Frame) -> str:
    return (
        "\N{MULTIPLICATION SIGN} marks the last finite value of a trial that diverged. "
        if (frame.trials["state"] == "diverged").any()
        else ""
    )
