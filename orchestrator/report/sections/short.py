"""The findings that stand out, judged by the numbers of the tables alone."""

from __future__ import annotations

import math

import pandas as pd

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.states import State
from orchestrator.report import tables
from orchestrator.report.blocks import Block, text
from orchestrator.report.contents import Report
from orchestrator.report.frame import keyed, records, where
from orchestrator.report.words import number


def blocks(report: Report) -> tuple[Block, ...]:
    found = _findings(report)
    return (text("list", *found),) if found else ()


def _findings(report: Report) -> list[str]:
    """A sentence for everything that stands out."""
    found = []
    for task in report.frame.names("task"):
        for dataset in report.frame.evaluation_sets():
            found += _winners(report, tables.Column(task, dataset, "psnr"))
        for labels, rows in keyed(
            where(report.divergence, {"task": task}), *report.frame.panels_by
        ):
            found += _spread(report.frame.named(report.frame.panels_by, labels), rows)
    gone = records(report.frame.trials[report.frame.trials["state"] == State.DIVERGED])
    if gone:
        names = [f"{row['name']} (step {row['step']:.0f})" for row in gone[:5]]
        more = [f"and {len(gone) - 5} more"] if len(gone) > 5 else []
        found.append(f"Diverged: {', '.join(names + more)}.")
    return found


def _spread(name: str, divergence: pd.DataFrame) -> list[str]:
    """The range of the features in one panel, if it has several norms."""
    rows = records(divergence[divergence["value"].map(math.isfinite)])
    if len({row[COMPARED] for row in rows}) < 2:
        return []
    low, top = (choose(rows, key=lambda row: row["value"]) for choose in (min, max))
    where_low, where_top = (f"({row[COMPARED]}, {row['size']})" for row in (low, top))
    return [
        f"{name}: at step {top['step']} the largest group's mean square ranges from "
        f"{number(low['value'])} {where_low} to {number(top['value'])} {where_top}."
    ]


def _winners(report: Report, column: tables.Column) -> list[str]:
    """The norms with the highest values of a column, at how many sizes and by how much."""
    leads: dict[str, list[tuple[float, str]]] = {}
    total = 0
    for table in report.comparisons:
        i = table.columns.index(column)
        ranked = sorted(
            ((row.cells[i].mean, row.name) for row in table.rows if row.cells[i].mean is not None),
            reverse=True,
        )
        if len(ranked) > 1:
            total += 1
            (best, norm), (second, other) = ranked[:2]
            assert best is not None
            assert second is not None
            where = f"{table.size} ({column.text(best)} dB, {best - second:+.2f} on {other})"
            leads.setdefault(norm, []).append((best - second, where))
    if not leads:
        return []
    if total <= 2:
        said = [
            f"{norm} at {' and '.join(where for _, where in lead)}" for norm, lead in leads.items()
        ]
    else:
        said = [
            f"{norm} at {len(lead)} of {total} sizes "
            f"(by {min(lead)[0]:.2f} to {max(lead)[0]:.2f} dB)"
            for norm, lead in leads.items()
        ]
    return [f"{column.task}: highest PSNR on {column.dataset}: {'; '.join(said)}."]
