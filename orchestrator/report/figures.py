"""The plots of a report: feature traces, divergence against size, channel entropy, quality.

Each has a panel for every task and size. A norm looks the same in all of them
(orchestrator.report.drawing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure as Canvas

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.states import State
from orchestrator.report import depth_plot, drawing, live, size_plot
from orchestrator.report.blocks import Figure
from orchestrator.report.drawing import slug_of
from orchestrator.report.frame import Frame, keyed, where
from orchestrator.report.growth_tables import factor, points, times
from orchestrator.report.growths import (
    TRACE,
    NormGrowth,
    NormTrend,
    group_traces,
    largest_groups,
    measures,
)
from orchestrator.report.observations import Observed
from orchestrator.report.styles import Style, norm_styles
from orchestrator.report.thinning import ENTROPY, LOSS

Texts = list[tuple[str, str]]  # colour and text of each line
Placed = tuple[tuple[int, int], Figure]  # the number of its model, and its place among its figures


def from_points(frame: Frame) -> list[Placed]:
    """The figures of curves alone, which can be drawn before anything is computed.

    The frame's points are those to draw (orchestrator.report.thinning), with labels.
    """
    figures: list[Placed] = []
    for model, (_, part, title) in enumerate(_models(frame)):
        styles = norm_styles(frame.names(COMPARED))
        with matplotlib.rc_context(drawing.RC):
            figures += [((model, 2), figure) for figure in _entropy(part, styles, title)]
            figures += [((model, 4), figure) for figure in _quality(part, styles, title)]
            figures += [((model, 5), figure) for figure in _groups(part, styles, title)]
    return figures


def from_numbers(
    frame: Frame,
    growths: Sequence[NormGrowth],
    trends: Sequence[NormTrend],
    observed: Sequence[Observed],
) -> list[Placed]:
    """The figures that show growths and what else was computed."""
    figures: list[Placed] = []
    for model, (labels, part, title) in enumerate(_models(frame)):
        styles = norm_styles(frame.names(COMPARED))
        grown = [line for line in growths if labels.items() <= line.labels.items()]
        found = [line for line in trends if labels.items() <= line.labels.items()]
        seen = [line for line in observed if labels.items() <= line.labels.items()]
        rows = points(part, grown)
        with matplotlib.rc_context(drawing.RC):
            figures += [((model, 0), figure) for figure in _trace(part, styles, title, grown)]
            if not rows.empty and measures(part):
                sizes = size_plot.drawn(part, styles, title, rows, found)
                figures.append(((model, 1), sizes))
            depths = depth_plot.drawn(part, styles, title, seen)
            figures += [((model, 3), figure) for figure in depths]
    return figures


def _models(frame: Frame) -> Iterator[tuple[dict[str, Any], Frame, str]]:
    """Each model's labels, its part of the frame, and its title."""
    for labels, trials in keyed(frame.trials, *frame.tables_by):
        part = replace(frame, trials=trials, points=where(frame.points, labels))
        yield labels, part, frame.named(frame.tables_by, labels)


def _trace(
    frame: Frame, styles: dict[str, Style], title: str, growths: Sequence[NormGrowth]
) -> list[Figure]:
    series = largest_groups(frame)
    if series.empty:
        return []

    def said(labels: Mapping[str, Any]) -> Texts:
        return [
            (styles[line.labels[COMPARED]].colour, _in_short(line))
            for line in growths
            if labels.items() <= {**line.labels, "size": line.size}.items()
        ]

    caption = (
        "Mean of x² at the output of each group, on a fixed probe batch in evaluation mode with "
        "raw weights; the largest over the groups, log scale. Below each panel: growth since step "
        "0 with a 95 % interval over seeds, and what the slope of the last half of training says. "
        + _seeds_note(frame, "geometric mean")
        + _diverged_note(frame)
    )
    canvas = _grid(frame, styles, series, "max mean square", log=True, said=said)
    slug, name = slug_of("trace", title), f"Feature traces, {title}"
    return [drawing.figure(canvas, slug, name, caption, styles)]


def _in_short(line: NormGrowth) -> str:
    """`i_ln: × 0.71 [0.68, 0.74], bounded`."""
    grown = factor(line.growth)
    limits = f" {grown.limits}" if grown.limits else ""
    return f"{line.labels[COMPARED]}: {times(grown.value)}{limits}, {line.growth.verdict}"


def _entropy(frame: Frame, styles: dict[str, Style], title: str) -> list[Figure]:
    series = frame.metric(ENTROPY)
    if series.empty:
        return []
    caption = (
        "Entropy of the channels' shares of energy at the last group, H / ln C, computed per image "
        "and then averaged: 1 if all channels carry the same energy, near 0 if a few carry it all. "
        + _seeds_note(frame, "mean")
    )
    canvas = _grid(frame, styles, series, "channel entropy, H / ln C", log=False)
    slug, name = slug_of("entropy", title), f"Channel entropy, {title}"
    return [drawing.figure(canvas, slug, name, caption, styles)]


def _quality(frame: Frame, styles: dict[str, Style], title: str) -> list[Figure]:
    figures = []
    loss = frame.metric(LOSS)
    if not loss.empty:
        caption = "L1 training loss, log scale. " + _seeds_note(frame, "geometric mean")
        canvas = _grid(frame, styles, loss, "training loss (L1)", log=True, markers=False)
        slug, name = slug_of("loss", title), f"Training loss, {title}"
        figures.append(drawing.figure(canvas, slug, name, caption, styles))
    for dataset in frame.evaluation_sets():
        psnr = frame.metric(f"val/{dataset}/psnr")
        if psnr.groupby("trial")["step"].nunique().max() > 1:
            caption = f"PSNR on {dataset} with the EMA weights while training. " + _seeds_note(
                frame, "mean"
            )
            canvas = _grid(frame, styles, psnr, "PSNR (dB)", log=False)
            slug, name = slug_of("psnr", dataset, title), f"PSNR on {dataset}, {title}"
            figures.append(drawing.figure(canvas, slug, name, caption, styles))
    return figures


def _groups(frame: Frame, styles: dict[str, Style], title: str) -> list[Figure]:
    """The traces of every group: a row of panels for each task and size, a column per group."""
    traces = group_traces(frame)
    if traces.empty:
        return []
    groups = sorted({int(name.removeprefix(TRACE)) for name in traces["metric"].unique()})
    every = [labels for labels, _ in keyed(traces, *frame.panels_by, "size")]
    rows, left_out = every, ""
    if len(every) * len(groups) > drawing.MOST_PANELS:
        rows, left_out = _ends(every), "the first and the last are"
        if len(rows) * len(groups) > drawing.MOST_PANELS:
            rows, left_out = _ends(every, first=False), "the last is"
    canvas, panels = drawing.panels(len(rows), len(groups), widest=3.4, share="all")
    for labels, line in zip(rows, panels, strict=True):
        for group, axes in zip(groups, line, strict=True):
            chosen = where(traces, {**labels, "metric": f"{TRACE}{group}"})
            drawing.draw_norms(axes, chosen, styles, log=True, markers=False)
            said = f"{frame.named(frame.panels_by, labels)}, {labels['size']}: group {group}"
            axes.set_title(said, fontsize=8.5)
            live.is_about(axes, task=str(labels["task"]), size=labels["size"])
            drawing.step_axis(
                axes,
                "mean square" if axes is line[0] else "",
                log=True,
                labelled=line is panels[-1],
            )
    drawing.legend(canvas, styles, frame)
    caption = "The same traces for each group, from the first to the last, all on one scale."
    if len(rows) < len(every):
        caption += f" Of the sizes of a task, {left_out} drawn."
    slug, name = slug_of("groups", title), f"Feature traces by group, {title}"
    return [drawing.figure(canvas, slug, name, caption, styles)]


def _ends(rows: Sequence[dict[str, Any]], *, first: bool = True) -> list[dict[str, Any]]:
    """The first and the last size of each task and recipe, or the last alone."""
    sizes: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        sizes.setdefault(tuple(row[name] for name in row if name != "size"), []).append(row)
    return [
        row
        for of_one in sizes.values()
        for row in (*(of_one[:1] if first and len(of_one) > 1 else ()), of_one[-1])
    ]


def _grid(
    frame: Frame,
    styles: dict[str, Style],
    series: pd.DataFrame,
    label: str,
    *,
    log: bool,
    markers: bool = True,
    said: Callable[[Mapping[str, Any]], Texts] | None = None,
) -> Canvas:
    """A panel for each size, one task (and recipe) after the other, with one curve per norm.

    At most four panels are in a row. `said`: lines of text below a panel, given its labels.
    """
    blocks = [labels for labels, _ in keyed(frame.trials, *frame.panels_by)]
    sizes = drawing.sizes_drawn(frame)
    columns = min(4, len(sizes))
    lines = -(-len(sizes) // columns)
    below = 0 if said is None else 1 + frame.trials[COMPARED].nunique()
    canvas, panels = drawing.panels(
        lines * len(blocks), columns, widest=4.6, share="row", lines_below=below
    )
    for i, labels in enumerate(blocks):
        name = frame.named(frame.panels_by, labels)
        block = [axes for line in panels[i * lines : (i + 1) * lines] for axes in line]
        for axes in block[len(sizes) :]:
            axes.remove()
        for j, (size, axes) in enumerate(zip(sizes, block, strict=False)):
            chosen = where(series, {**labels, "size": size})
            drawing.draw_norms(axes, chosen, styles, log=log, markers=markers)
            if log:
                drawing.mark_divergence(axes, frame, chosen, styles)
            axes.set_title(f"{name}, {frame.size_words[size]}")
            live.is_about(axes, task=str(labels["task"]), size=size)
            if said is not None:
                drawing.write_below(axes, said({**labels, "size": size}))
            if chosen.empty:
                axes.text(0.5, 0.5, "no data yet", transform=axes.transAxes, ha="center", alpha=0.6)
            last = i == len(blocks) - 1 and j + columns >= len(sizes)
            drawing.step_axis(
                axes, label if j % columns == 0 else "", log=log and not chosen.empty, labelled=last
            )
    drawing.legend(canvas, styles, frame)
    return canvas


def _seeds_note(frame: Frame, average: str) -> str:
    """What the lines are, and how many sizes are drawn if it is not all."""
    seeds = f"Thin: {frame.repeats} seeds; thick: their {average}. " if frame.repeats > 1 else ""
    return seeds + drawing.sizes_note(frame)


def _diverged_note(frame: Frame) -> str:
    return (
        "\N{MULTIPLICATION SIGN} marks the last finite value of a trial that diverged. "
        if (frame.trials["state"] == State.DIVERGED).any()
        else ""
    )
