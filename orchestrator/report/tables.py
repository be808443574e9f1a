"""The comparison tables: norm x task for each backbone and size, with mean and spread over seeds.

Missing values are named. If a sweep varies the recipe, a norm has a row for each value, since only
repetitions are averaged. What may be said of the differences is orchestrator.report.families'.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from orchestrator.plan.axes import COMPARED
from orchestrator.report.comparable import Final, Key, why_missing
from orchestrator.report.families import Cell as FamilyCell
from orchestrator.report.families import Family, families
from orchestrator.report.frame import Frame, keyed, records, where
from orchestrator.report.pairs import index_of
from trainers.catalog import METRICS


@dataclass(frozen=True)
class Column:
    """One column of a comparison: a metric of an evaluation set, for one task; higher is better."""

    task: str
    dataset: str
    metric: str

    @property
    def key(self) -> str:
        return f"val/{self.dataset}/{self.metric}"

    def text(self, value: float) -> str:
        return f"{value:.{METRICS[self.metric].facts['decimals']}f}"


@dataclass(frozen=True)
class Cell:
    """Final values of one cell's seeds.

    `sd` is the sample standard deviation, None for fewer than two seeds. `missing` says why seeds
    have no value, e.g. `diverged at step 37`, `2 pending`. `in_best_set`: whether the norm is among
    those that cannot be told from the best; None if it cannot be compared.
    """

    mean: float | None
    sd: float | None
    n: int
    missing: tuple[str, ...] = ()
    in_best_set: bool | None = None
    is_marked: bool = False  # in such a set that leaves some norm out


class Row(NamedTuple):
    """One line of a comparison, identified by `name` in words and by `labels` by axis."""

    name: str
    cells: tuple[Cell, ...]
    labels: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """One table: the norms of a backbone, named by `labels` and `title`, at one size.

    `family` has the differences of its norms, None if there is none of them.
    """

    labels: Mapping[str, Any]
    title: str
    size: str
    parameters: tuple[int, int]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    family: Family | None = None

    def cell_of(self, row: Row, column: Column) -> FamilyCell:
        """The cell's key in the family."""
        recipe = (str(value) for name, value in row.labels.items() if name != COMPARED)
        return (str(column.task), column.dataset, column.metric, *recipe)


def comparisons(frame: Frame, found: Sequence[Family] | None = None) -> tuple[Comparison, ...]:
    """A table for each backbone and size, in file order; `found` are `families(frame)`."""
    of_tables = {
        (tuple(family.labels.values()), family.size): family
        for family in (families(frame) if found is None else found)
        if family.is_plain
    }
    scored = index_of(frame).finals
    sets = dict.fromkeys([*frame.evaluation_sets(), *(key.set for key in scored if key.is_plain)])
    of_task = frame.sets_by_task((key.trial, key.set) for key in scored if key.is_plain)
    columns = tuple(
        Column(task, name, metric)
        for task, its in of_task.items()
        for name in sets
        if name in its
        for metric in METRICS.names
    )
    tables = []
    for labels, trials in keyed(frame.trials, *frame.tables_by, "size"):
        size = labels.pop("size")
        lines = [row for row, _ in keyed(where(frame.trials, labels), *frame.rows_by)]
        parameters = (int(trials["parameters"].min()), int(trials["parameters"].max()))
        table = Comparison(
            labels,
            frame.named(frame.tables_by, labels),
            size,
            parameters,
            columns,
            tuple(Row(frame.named(frame.rows_by, line), (), line) for line in lines),
            of_tables.get((tuple(labels.values()), size)),
        )
        tables.append(replace(table, rows=tuple(_filled(table, trials, scored))))
    return tuple(tables)


def _filled(
    table: Comparison, trials: pd.DataFrame, scored: Mapping[Key, Final | str]
) -> Iterator[Row]:
    """The rows of a table with their cells."""
    for row in table.rows:
        own = records(where(trials, row.labels))
        cells = []
        for column in table.columns:
            cell = _cell(own, column, scored)
            norm, key = str(row.labels[COMPARED]), table.cell_of(row, column)
            if table.family is not None and cell.mean is not None:
                cell = replace(
                    cell,
                    in_best_set=table.family.may_be_best(key, norm),
                    is_marked=norm in table.family.marked(key),
                )
            cells.append(cell)
        yield row._replace(cells=tuple(cells))


def _cell(
    rows: Sequence[Mapping[str, Any]], column: Column, scored: Mapping[Key, Final | str]
) -> Cell:
    rows = [row for row in rows if row["task"] == column.task]
    finals = {
        row["trial"]: scored.get(Key(row["trial"], column.dataset, column.metric)) for row in rows
    }
    rows = [row for row in rows if column.dataset in row["evaluate"] or finals[row["trial"]]]
    if not rows:
        return Cell(None, None, 0, ("not evaluated" if finals else "not in the sweep",))
    values = [final.mean for final in finals.values() if isinstance(final, Final)]
    absent = Counter(
        final or why_missing(row)
        for row in rows
        if not isinstance(final := finals[row["trial"]], Final)
    )
    missing = tuple(why if count == 1 else f"{count} {why}" for why, count in absent.items())
    if not values:
        return Cell(None, None, 0, missing)
    sd = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Cell(math.fsum(values) / len(values), sd, len(values), missing)


def as_frame(tables: tuple[Comparison, ...]) -> pd.DataFrame:
    """The tables in long form, as table.csv."""
    rows = [
        {
            **table.labels,
            "size": table.size,
            **row.labels,
            "task": column.task,
            "dataset": column.dataset,
            "metric": column.metric,
            "mean": cell.mean,
            "sd": cell.sd,
            "seeds": cell.n,
            "in_best_set": cell.in_best_set,
            "missing": "; ".join(cell.missing),
        }
        for table in tables
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
    ]
    return pd.DataFrame(rows, dtype=object)  # None stays, and is empty in a file
