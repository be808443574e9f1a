"""How the largest features vary with the size of the network."""

from __future__ import annotations

from orchestrator.report.blocks import Block, Cell, Column, Table, text
from orchestrator.report.contents import Report
from orchestrator.report.correlation import Correlation
from orchestrator.report.words import count, number

METHOD = (
    "The median over the seeds of each size is taken first, so n counts sizes; diverged trials "
    "rank highest. Intervals are Fisher's z with Bonett and Wright's standard error; if "
    "\N{GREEK SMALL LETTER RHO} is ±1, it is first moved half an exchange of neighbouring ranks "
    "towards zero. Below three sizes no correlation is given, at three no interval."
)


def blocks(report: Report) -> tuple[Block, ...]:
    if not report.correlations:
        return ()
    models = [name for name in report.frame.tables_by if report.frame.trials[name].nunique() > 1]
    columns = (
        *(Column((name,)) for name in (*models, "task")),
        *report.label_columns(),
        Column(("against",)),
        *(Column((head,), "right") for head in ("from", "to", "step", "growth")),
        Column(("Spearman, 95 % interval",)),
    )
    rows = tuple(_row(report, line, models) for line in report.correlations)
    table = Table(columns, rows, "Growth with size", "largest group's mean square")
    return (*report.drawn("size"), table, text("method", METHOD))


def _row(report: Report, line: Correlation, models: list[str]) -> tuple[Cell, ...]:
    return (
        *(Cell(str(line.labels[name]), line.labels[name]) for name in (*models, "task")),
        *report.label_cells(line.labels),
        Cell(line.measure, line.measure),
        Cell(count(line.smallest), line.smallest),
        Cell(count(line.largest), line.largest),
        Cell(str(line.step), line.step),
        Cell(f"\N{MULTIPLICATION SIGN} {number(line.growth)}", line.growth),
        Cell(str(line.rank), line.rank.rho),
    )
