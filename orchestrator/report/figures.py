"""The plots, as SVG: one colour, marker and dash per norm everywhere; readable in print, on dark pages and without colour.

Ink (text, axes, grid) is drawn in one stand-in colour, which the page replaces by its own text colour and the files by
a dark grey. Text stays text: it can be selected, searched and read aloud.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from orchestrator.report.correlation import TRACE, Correlation, by_size, max_over_groups, measures
from orchestrator.report.frame import Frame

INK = "#1b2c3d"
FILE_INK = "#22272e"
RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "normsweep",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
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
}
PAGE_IN = 11.5


@dataclass(frozen=True)
class Figure:
    """A plot with its caption. `svg` has the stand-in ink; see `for_page` and `for_file`."""

    slug: str
    title: str
    caption: str
    svg: str

    def for_page(self) -> str:
        """The SVG element alone, in the page's text colour, its ids made unique in the page."""
        svg = self.svg[self.svg.index("<svg") :].replace(INK, "currentColor")
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.slug}-", svg)
        return svg.replace("<svg ", f'<svg role="img" aria-label="{self.title}" ', 1)

    def for_file(self) -> str:
        return self.svg.replace(INK, FILE_INK)


@dataclass(frozen=True)
class Style:
    """How a norm is drawn, in every figure."""

    colour: str
    marker: str
    dash: Any


# Okabe and Ito's palette, blue and purple lifted so that all hold 3:1 against white and near-black.
STYLES = {
    "layer_norm": Style("#d55e00", "o", "-"),
    "rms_norm": Style("#009e73", "s", (0, (5, 1.6))),
    "i_ln": Style("#1f80c8", "D", "-"),
}
SPARE_COLOURS = ("#b8629b", "#a88500", "#6f7d8c", "#7c62c8", "#8f5a3c", "#3a9aa8")
SPARE_MARKERS = ("^", "v", "P", "X", "<", ">")
SPARE_DASHES = ((0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)), "-", (0, (3, 1)))


def norm_styles(norms: Sequence[str]) -> dict[str, Style]:
    """A norm's own style, and for those without one the spares in file order."""
    others = [norm for norm in norms if norm not in STYLES]
    spare = {
        norm: Style(
            SPARE_COLOURS[i % len(SPARE_COLOURS)], SPARE_MARKERS[i % len(SPARE_MARKERS)], SPARE_DASHES[i % len(SPARE_DASHES)]
        )
        for i, norm in enumerate(others)
    }
    return {norm: STYLES.get(norm) or spare[norm] for norm in norms}


def all_figures(frame: Frame, divergence: pd.DataFrame, found: Sequence[Correlation]) -> list[Figure]:
    """Every figure that the data allow, in the order of the page."""
    styles = norm_styles(frame.names("norm"))
    figures: list[Figure] = []
    with matplotlib.rc_context(RC):
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
        "Mean of x² at the output of each group on a fixed probe batch in evaluation mode, raw weights; the largest group, "
        "log scale. " + _seeds_note(frame, "geometric mean") + _diverged_note(frame)
    )
    canvas = _grid(frame, styles, series, "max mean square", log=True)
    return [Figure(_slug("trace", backbone), f"Feature traces, {backbone}", caption, _svg(canvas))]


def _entropy(frame: Frame, styles: dict[str, Style], backbone: str) -> list[Figure]:
    series = frame.metric("feature/entropy_normalised")
    if series.empty:
        return []
    caption = (
        "Entropy of the channels' share of energy at the last group, H / ln C, per image and then averaged: 1 where all "
        "channels carry the same energy, near 0 where a few carry it all. " + _seeds_note(frame, "mean")
    )
    canvas = _grid(frame, styles, series, "channel entropy, H / ln C", log=False)
    return [Figure(_slug("entropy", backbone), f"Channel entropy, {backbone}", caption, _svg(canvas))]


def _quality(frame: Frame, styles: dict[str, Style], backbone: str) -> list[Figure]:
    figures = []
    loss = frame.metric("train/loss")
    if not loss.empty:
        caption = "L1 training loss, log scale. " + _seeds_note(frame, "geometric mean")
        canvas = _grid(frame, styles, loss, "training loss (L1)", log=True, markers=False)
        figures.append(Figure(_slug("loss", backbone), f"Training loss, {backbone}", caption, _svg(canvas)))
    for dataset in frame.evaluation_sets():
        psnr = frame.metric(f"val/{dataset}/psnr")
        if psnr.groupby("trial")["step"].nunique().max() > 1:
            caption = f"PSNR on {dataset} with the EMA weights while training. " + _seeds_note(frame, "mean")
            canvas = _grid(frame, styles, psnr, "PSNR (dB)", log=False)
            figures.append(Figure(_slug("psnr", dataset, backbone), f"PSNR on {dataset}, {backbone}", caption, _svg(canvas)))
    return figures


def _groups(frame: Frame, styles: dict[str, Style], backbone: str) -> list[Figure]:
    """Per group, one row of panels for each task and size."""
    traces = frame.points[frame.points["metric"].str.startswith(TRACE)]
    if traces.empty:
        return []
    groups = sorted({int(name.removeprefix(TRACE)) for name in traces["metric"]})
    rows = list(traces.groupby(["task", "size"], sort=False).groups)
    canvas, panels = _panels(len(rows), len(groups), widest=3.4, share="all")
    for (task, size), line in zip(rows, panels, strict=True):
        for group, axes in zip(groups, line, strict=True):
            chosen = (traces["task"] == task) & (traces["size"] == size) & (traces["metric"] == f"{TRACE}{group}")
            _draw_norms(axes, traces[chosen], styles, log=True, markers=False)
            axes.set_title(f"{task}, {size}: group {group}", fontsize=8.5)
            _step_axis(axes, "mean square" if axes is line[0] else "", log=True, labelled=line is panels[-1])
    _legend(canvas, styles, frame)
    caption = "The same traces group by group, from the first to the last; one scale throughout."
    return [Figure(_slug("groups", backbone), f"Feature traces by group, {backbone}", caption, _svg(canvas))]


def _size_plot(
    frame: Frame, styles: dict[str, Style], backbone: str, rows: pd.DataFrame, found: Sequence[Correlation]
) -> Figure:
    tasks = list(dict.fromkeys(rows["task"]))
    shown = measures(rows)
    canvas, panels = _panels(len(tasks), len(shown), widest=4.6, share="row")
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
                axes.scatter(trials.loc[finite, measure], trials.loc[finite, "value"], **_dot(style))
                gone = trials.loc[~finite, measure]
                top = axes.get_xaxis_transform()
                axes.plot(gone, [0.97] * len(gone), "x", color=style.colour, transform=top, markersize=8, markeredgewidth=2)
            axes.set_title(f"{task}, step {step}")
            axes.set_xscale("log")
            values = sorted(rows.loc[rows["task"] == task, measure].unique())
            _size_ticks(axes, values, measure)
            _finish(axes, _measure_label(measure), "max mean square" if axes is line[0] else "", log=True)
            _write_ranks(axes, [c for c in found if c.task == task and c.measure == measure], styles)
    _legend(canvas, styles, frame)
    caption = (
        "Largest group's mean square at the last step that all completed trials share, against size; both axes logarithmic, a "
        "point per trial, a line through the sizes' medians over seeds. ρ is Spearman's over sizes, with a 95 % interval. "
        + ("× at the top: diverged by then, ranks highest." if not np.isfinite(rows["value"]).all() else "")
    )
    return Figure(_slug("size", backbone), f"Divergence against size, {backbone}", caption, _svg(canvas))


def _write_ranks(axes: Axes, found: Sequence[Correlation], styles: dict[str, Style]) -> None:
    """The correlations under the panel, or the reason once where all have the same one."""
    notes = {line.rank.note for line in found if line.rank.rho is None}
    same = len(notes) == 1 and all(line.rank.rho is None for line in found)
    texts = [(INK, notes.pop())] if same else [(styles[line.norm].colour, f"{line.norm}: {line.rank}") for line in found]
    for i, (colour, text) in enumerate(texts):
        axes.annotate(text, (0, 0), (0, -38 - 11 * i), "axes fraction", "offset points", color=colour, fontsize=8, va="top")


def _measure_label(measure: str) -> str:
    return {"width": "width (embed_dim)", "depth": "depth (groups)"}.get(measure, measure)


def _size_ticks(axes: Axes, values: Sequence[float], measure: str) -> None:
    """The sizes themselves where they are few and apart, else the ends and the middle."""
    low, high = min(values), max(values)
    apart = all(b / a > (high / low) ** 0.12 for a, b in pairwise(values))
    ticks = values if apart else np.geomspace(low, high, 3)
    axes.set_xlim(low / (high / low) ** 0.08, high * (high / low) ** 0.08)
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
    canvas, panels = _panels(lines * len(tasks), columns, widest=4.6, share="row")
    for i, task in enumerate(tasks):
        block = [axes for line in panels[i * lines : (i + 1) * lines] for axes in line]
        for axes in block[len(sizes) :]:
            axes.remove()
        for j, (size, axes) in enumerate(zip(sizes, block, strict=False)):
            chosen = series[(series["task"] == task) & (series["size"] == size)]
            _draw_norms(axes, chosen, styles, log=log, markers=markers)
            if log:
                _mark_divergence(axes, frame, chosen, styles)
            axes.set_title(f"{task}, {size}")
            if chosen.empty:
                axes.text(0.5, 0.5, "no data yet", transform=axes.transAxes, ha="center", alpha=0.6)
            last = i == len(tasks) - 1 and j + columns >= len(sizes)
            _step_axis(axes, label if j % columns == 0 else "", log=log and not chosen.empty, labelled=last)
    _legend(canvas, styles, frame)
    return canvas


def _draw_norms(axes: Axes, series: pd.DataFrame, styles: dict[str, Style], *, log: bool, markers: bool) -> None:
    average: Callable[[pd.Series], float] = _geometric_mean if log else _mean
    for norm, style in styles.items():
        curves = series[series["norm"] == norm]
        curves = curves[np.isfinite(curves["value"]) & ((curves["value"] > 0) | (not log))]
        if curves.empty:
            continue
        trials = [trial.sort_values("step") for _, trial in curves.groupby("trial")]
        if len(trials) > 1:
            for trial in trials:
                axes.plot(trial["step"], trial["value"], color=style.colour, linewidth=0.7, alpha=0.4)
        mean = curves.groupby("step")["value"].agg(average)
        complete = mean[curves.groupby("step")["trial"].nunique() == len(trials)]
        drawn = complete if len(complete) else mean
        every = max(1, len(drawn) // 5)
        axes.plot(
            drawn.index,
            drawn,
            color=style.colour,
            linestyle=style.dash,
            linewidth=1.7,
            marker=style.marker if markers else None,
            markersize=4,
            markevery=every,
        )


def _mark_divergence(axes: Axes, frame: Frame, series: pd.DataFrame, styles: dict[str, Style]) -> None:
    diverged = set(frame.trials.loc[frame.trials["state"] == "diverged", "trial"])
    for trial, curve in series[series["trial"].isin(diverged)].groupby("trial"):
        finite = curve[np.isfinite(curve["value"]) & (curve["value"] > 0)].sort_values("step")
        if not finite.empty:
            last = finite.iloc[-1]
            axes.plot(last["step"], last["value"], "x", color=styles[last["norm"]].colour, markersize=9, markeredgewidth=2)


def _mean(values: pd.Series) -> float:
    return float(values.mean())


def _geometric_mean(values: pd.Series) -> float:
    return math.exp(float(np.log(values).mean()))


def _dot(style: Style) -> dict[str, Any]:
    return {"color": style.colour, "marker": style.marker, "s": 26, "zorder": 3}


def _panels(rows: int, columns: int, *, widest: float, share: str) -> tuple[Canvas, list[list[Axes]]]:
    """Panels as wide as the page allows, up to `widest` inches; many columns make the plot wider than the page."""
    width = max(2.3, min(widest, PAGE_IN / columns))
    height = 0.28 + 0.55 * width if width > 3 else 0.75 * width
    canvas = Canvas(figsize=(width * columns, height * rows + 0.35), layout="constrained")
    canvas.get_layout_engine().set(h_pad=0.08, w_pad=0.08)  # type: ignore[union-attr, call-arg]
    panels = canvas.subplots(rows, columns, squeeze=False, sharey=share)  # type: ignore[call-overload]
    return canvas, [list(line) for line in panels]


def _finish(axes: Axes, label_x: str, label_y: str, *, log: bool) -> None:
    axes.set_xlabel(label_x)
    axes.set_ylabel(label_y)
    if log:
        axes.set_yscale("log")
        _log_ticks(axes)


def _step_axis(axes: Axes, label_y: str, *, log: bool, labelled: bool) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _finish(axes, "step" if labelled else "", label_y, log=log)


def _log_ticks(axes: Axes) -> None:
    """Decades where there are enough of them, else 1-2-5 steps: no axis without two numbers."""
    low, high = axes.get_ylim()
    subs = (1.0,) if high / max(low, 1e-300) > 300 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(canvas: Canvas, styles: dict[str, Style], frame: Frame) -> None:
    lines = [
        Line2D([], [], color=s.colour, linestyle=s.dash, marker=s.marker, markersize=4, linewidth=1.7, label=norm)
        for norm, s in styles.items()
        if norm in set(frame.trials["norm"])
    ]
    canvas.legend(handles=lines, loc="outside upper left", ncols=6, fontsize=9, handlelength=2.6, borderaxespad=0)


def _seeds_note(frame: Frame, average: str) -> str:
    seeds = frame.trials["seed"].nunique()
    return f"Thin: {seeds} seeds; thick: their {average}. " if seeds > 1 else ""


def _diverged_note(frame: Frame) -> str:
    return "× marks the last finite value of a trial that diverged. " if (frame.trials["state"] == "diverged").any() else ""


def _svg(canvas: Canvas) -> str:
    text = StringIO()
    canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()
