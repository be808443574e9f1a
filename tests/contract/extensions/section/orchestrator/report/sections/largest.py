"""Which trial has the largest network."""

from __future__ import annotations

from orchestrator.report.blocks import Block, text
from orchestrator.report.contents import Report
from orchestrator.report.frame import records
from orchestrator.report.words import count


def blocks(report: Report) -> tuple[Block, ...]:
    row = max(records(report.frame.trials), key=lambda row: row["parameters"])
    return (text("list", f"{row['name']} has the most parameters: {count(row['parameters'])}."),)
