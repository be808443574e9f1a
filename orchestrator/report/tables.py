"""The comparison tables: norm x task for each backbone and size, with mean and spread over seeds.

Missing values are named. If a sweep varies the recipe, a norm has a row for each value, since only
repetitions are averaged.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from orchestrator.plan.states import State
from orchestrator.report.frame import Frame, in_words, keyed, records, where
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
    have no value, e.g. `diverged at step 37`, `2 pending`.
    """

    mean: float | None
    sd: float | None
    n: int
    missing: tuple[str, ...] = ()
    best: bool = False


class Row(NamedTuple):
    """One line of a comparison, identified by `name` in words and by `labels` by axis."""

    name: str
    cells: tuple[Cell, ...]
    labels: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """One table: the norms of a backbone, named by `labels` and `title`, at one size."""

    labels: Mapping[str, Any]
    title: str
    size: str
    parameters: tuple[int, int]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def final_values(frame: Frame, metric: str) -> dict[str, float]:
    """The final value of each trial that completed. Diverged trials have none."""
    done = frame.trials.loc[frame.trials["state"] == State.DONE, ["trial", "step"]]
    at_end = frame.metric(metric).merge(done, on=["trial", "step"])
    return dict(zip(at_end["trial"], at_end["value"], strict=True))


def comparisons(frame: Frame) -> tuple[Comparison, ...]:
    """A table for each backbone and size, in file order."""
    columns = tuple(
        Column(t, d, m)
        for t in frame.names("task")
        for d in frame.evaluation_sets()
        for m in METRICS.names
    )
    finals = {column.key: final_values(frame, column.key) for column in columns}
    tables = []
    for labels, trials in keyed(frame.trials, *frame.tables_by, "size"):
        size = labels.pop("size")
        lines = [row for row, _ in keyed(where(frame.trials, labels), *frame.rows_by)]
        cells = [
            [_cell(where(trials, line), column, finals[column.key]) for column in columns]
            for line in lines
        ]
        marked = [
            _with_best(list(column), c)
            for column, c in zip(zip(*cells, strict=True), columns, strict=True)
        ]
        by_row = list(zip(*marked, strict=True)) if columns else [() for _ in lines]
        parameters = (int(trials["parameters"].min()), int(trials["parameters"].max()))
        names = [frame.named(frame.rows_by, line) for line in lines]
        rows = tuple(map(Row, names, by_row, lines))
        tables.append(
            Comparison(
                labels, frame.named(frame.tables_by, labels), size, parameters, columns, rows
            )
        )
    return tuple(tables)


def _cell(trials: pd.DataFrame, column: Column, finals: dict[str, float]) -> Cell:
    rows = [
        row
        for row in records(trials)
        if row["task"] == column.task and column.dataset in row["evaluate"]
    ]
    if not rows:
        return Cell(None, None, 0, ("not in the sweep",))
    values = [finals[row["trial"]] for row in rows if row["trial"] in finals]
    absent = Counter(_why_missing(row) for row in rows if row["trial"] not in finals)
    missing = tuple(why if count == 1 else f"{count} {why}" for why, count in absent.items())
    if not values:
        return Cell(None, None, 0, missing)
    sd = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Cell(statistics.fmean(values), sd, len(values), missing)


def _why_missing(row: dict[str, Any]) -> str:
    return "done, not evaluated" if row["state"] == State.DONE else in_words(row)


def _with_best(cells: list[Cell], column: Column) -> list[Cell]:
    """Mark the highest mean and those printed alike; a lone value is not marked."""
    means = [cell.mean for cell in cells if cell.mean is not None and math.isfinite(cell.mean)]
    if len(means) < 2:
        return cells
    best = column.text(max(means))
    return [
        replace(cell, best=cell.mean is not None and column.text(cell.mean) == best)
        for cell in cells
    ]


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
            "best": cell.best,
            "missing": "; ".join(cell.missing),
        }
        for table in tables
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
    ]
    return pd.DataFrame(rows)
