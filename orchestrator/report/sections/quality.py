"""The comparison tables: how good each norm is on each task."""

from __future__ import annotations

from orchestrator.report.blocks import Block, Cell, Column, Group, Mark, Table, Text, Words
from orchestrator.report.contents import Report
from orchestrator.report.tables import Cell as Score
from orchestrator.report.tables import Column as Scored
from orchestrator.report.tables import Comparison
from orchestrator.report.words import count
from trainers.catalog import METRICS


def blocks(report: Report) -> tuple[Block, ...]:
    comparisons = tuple(table(report, comparison) for comparison in report.comparisons)
    return Text((_lead(report.frame.repeats),), "lead"), Group("tables", comparisons)


def table(report: Report, comparison: Comparison) -> Table:
    """One comparison: a row for each norm, and columns by task, set and metric."""
    columns = (
        Column((column.task, column.dataset, METRICS[column.metric].facts["title"]), "right")
        for column in comparison.columns
    )
    rows = (
        (*report.label_cells(row.labels), *map(cell, row.cells, comparison.columns))
        for row in comparison.rows
    )
    least, most = comparison.parameters
    parameters = f"{count(least)} to {count(most)}" if most != least else count(least)
    return Table(
        (*report.label_columns(), *columns),
        tuple(rows),
        caption=f"{comparison.title}, {comparison.size}",
        remark=f"{parameters} parameters",
        style="comparison",
    )


def cell(score: Score, column: Scored) -> Cell:
    """A score in words: value, spread, and what is missing."""
    seeds = [f"n = {score.n}"] if score.sd is not None or (score.n and score.missing) else []
    return Cell(
        "" if score.mean is None else column.text(score.mean),
        score.mean,
        spread=f"± {column.text(score.sd)}" if score.sd is not None else "",
        note=", ".join([*seeds, *score.missing]),
        is_best=score.best,
    )


def _lead(seeds: int) -> Words:
    spread = " ± sample standard deviation over the seeds" if seeds > 1 else ""
    one = (
        " One seed per cell: no spread can be given, and small differences may be seed noise."
        if seeds == 1
        else ""
    )
    before = (
        f"Final values on whole held-out images, EMA weights. Mean{spread}; higher is better; "
        "the best value in each column is "
    )
    return before, Mark("marked", "best"), f".{one}"
