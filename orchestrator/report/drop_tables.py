"""Drops as blocks: a table for each network, and what to run for those that nobody measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.hints import hint
from orchestrator.plan.axes import COMPARED
from orchestrator.plan.states import State
from orchestrator.report.blocks import Cell, Column, Mark, Table, Text
from orchestrator.report.comparable import Key
from orchestrator.report.contents import Report
from orchestrator.report.difference_tables import bounds, signed
from orchestrator.report.drops import Drop, Kind
from orchestrator.report.pairs import index_of
from orchestrator.report.tables import Column as Scored
from orchestrator.statistics.interval import Interval, Unknown
from trainers.catalog import METRICS

Line = tuple[str, ...]  # norm, the values of the recipe that vary, task, set


def tables(report: Report, kind: Kind, caption: str) -> tuple[Table, ...]:
    """A table for each network and size: rows by norm, task and set, columns by run and metric."""
    networks: dict[tuple[str, str], list[Drop]] = {}
    for one in report.drops:
        if one.kind == kind:
            name = report.frame.named(report.frame.tables_by, one.place.labels)
            networks.setdefault((name, one.place.size), []).append(one)
    return tuple(
        _table(report, found, f"{name}, {report.frame.size_words[size]}: {caption}")
        for (name, size), found in networks.items()
    )


def _table(report: Report, found: Sequence[Drop], caption: str) -> Table:
    recipe = [name for name in report.frame.rows_by if name != COMPARED]
    lines: dict[Line, dict[tuple[str, str], Drop]] = {}
    for one in found:
        labels = one.place.labels
        line = (one.norm, *(str(labels[name]) for name in (*recipe, "task")), one.place.set)
        lines.setdefault(line, {})[one.place.run, one.place.metric] = one
    runs = dict.fromkeys(run for cells in lines.values() for run, _ in cells)
    there = {metric for cells in lines.values() for _, metric in cells}
    numbers = [(run, metric) for run in runs for metric in METRICS.names if metric in there]
    columns = (
        *report.label_columns(),
        Column(("task",)),
        Column(("set",)),
        *(
            Column((*([run] if run else []), METRICS[metric].facts["title"]), "right")
            for run, metric in numbers
        ),
    )
    rows = tuple(
        (
            report.norm_cell(norm),
            *(Cell(word, word) for word in words),
            *(
                cell(cells.get(number), Scored(words[-2], words[-1], number[1]))
                for number in numbers
            ),
        )
        for (norm, *words), cells in lines.items()
    )
    return Table(columns, rows, caption, style="comparison")


def cell(one: Drop | None, column: Scored) -> Cell:
    """A drop in words: the difference, its interval, or why there is none."""
    if one is None:
        return Cell("", note="not evaluated")
    if one.estimate is None:
        return Cell("", note=_reason(one.other_seeds))
    said = [f"n = {len(one.paired.seeds)}"] if one.paired.left_out else []
    shown = signed(column, one.estimate)
    if isinstance(one.other_seeds, Interval):
        spread = bounds(column, one.other_seeds)
        return Cell(shown, one.estimate, spread=spread, note=", ".join(said))
    said.append(_reason(one.other_seeds).partition(":")[0])
    if isinstance(one.other_images, Interval):
        said.append(f"other images: {bounds(column, one.other_images)}")
    return Cell(shown, one.estimate, note=", ".join(said))


def _reason(found: Interval | Unknown) -> str:
    return found.reason if isinstance(found, Unknown) else ""


def missing(
    report: Report, wanted: Sequence[tuple[str, Callable[[Key], bool]]], flags: str
) -> tuple[Text, ...]:
    """What completed trials lack, with the command that measures it with these flags.

    `wanted` names each run and says whether scores are its.
    """
    scored: dict[str, list[Key]] = {}
    for key in index_of(report.frame).finals:
        scored.setdefault(key.trial, []).append(key)
    done = [row["trial"] for row in report.frame.rows if row["state"] == State.DONE]
    lacking = {
        name: [trial for trial in done if not any(map(is_of, scored.get(trial, ())))]
        for name, is_of in wanted
    }
    said = [
        f"{name} ({len(trials)} of {len(done)} completed trials)"
        for name, trials in lacking.items()
        if trials
    ]
    if not said:
        return ()
    files = report.plan.path.name.split(", ")  # several of a report on several
    line: list[str | Mark] = [f"Not measured: {', '.join(said)}. "]
    for i, file in enumerate(files):
        line += [" and " if i else "", Mark(hint(f"evaluate {file} {flags}"), "code")]
    return (Text(((*line, f" measure{'s' * (len(files) == 1)} them."),), "method"),)
