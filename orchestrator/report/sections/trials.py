"""Every trial, how far it is, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from orchestrator.plan.axes import COMPARED
from orchestrator.report.blocks import Block, Cell, Column, Mark, Table, Words, text
from orchestrator.report.contents import Report
from orchestrator.report.frame import in_words
from orchestrator.report.words import brief, count

LINKED = "Ids lead to the trials' runs in MLflow, as it answered when this was written."
NUMBERS = ("parameters", "workers", "attempts", "from first to last record")


def blocks(report: Report) -> tuple[Block, ...]:
    frame = report.frame
    columns = (
        Column(("trial",), is_label=True),
        Column(("id",)),
        Column(("state",)),
        *(Column((head,), "right") for head in NUMBERS),
    )
    rows = tuple(_row(report, row) for row in frame.rows)
    damage = [
        text("method", "Damaged files, which were passed over:"),
        text("list", *map(_damage, frame.damage)),
    ]
    method = [text("method", LINKED)] if report.links else []
    return (Table(columns, rows), *method, *(damage if frame.damage else ()))


def _row(report: Report, row: Mapping[str, Any]) -> tuple[Cell, ...]:
    about = {"norm": str(row[COMPARED]), "task": str(row["task"]), "size": row["size"]}
    reason, seconds = brief(row["reason"]), row["seconds"]
    return (
        replace(report.norm_cell(row[COMPARED], row["name"]), about=about),
        Cell(row["trial"], row["trial"], is_code=True, link=report.links.get(row["trial"], "")),
        Cell(
            in_words(row),
            row["state"],
            note=reason,
            state=str(row["state"]),
            more=row["reason"] if row["reason"] != reason else "",
        ),
        Cell(count(row["parameters"]), row["parameters"]),
        Cell(row["workers"], row["workers"]),
        Cell(str(row["attempts"]), row["attempts"], note=row["micro_batch"]),
        Cell("" if pd.isna(seconds) else f"{seconds:.0f} s", seconds),
    )


def _damage(sentence: str) -> Words:
    key, _, why = sentence.partition(" ")
    return Mark(key, "code"), f" {why}"
