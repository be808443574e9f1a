"""What low precision costs each norm: scores at fp16, int8 and int4 minus those at fp32."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.report import drop_tables
from orchestrator.report.blocks import Block, text
from orchestrator.report.comparable import Key
from orchestrator.report.contents import Report

WANTED = ("fp16", "int8", "int4")
METHOD = (
    "Each trial's score at a precision minus the same trial's at fp32, by image; below 0 it is a "
    "loss. In brackets: 95 % intervals of t for other seeds on these images, or, with one seed, "
    "for other images with these weights. A norm's loss is compared with another's in the claims."
)


def blocks(report: Report) -> tuple[Block, ...]:
    tables = drop_tables.tables(report, "precision", "scores at low precision minus fp32")
    missing = drop_tables.missing(
        report, [(name, _is_at(name)) for name in WANTED], "--precision all"
    )
    return (*tables, *((text("method", METHOD),) if tables else ()), *missing)


def _is_at(precision: str) -> Callable[[Key], bool]:
    return lambda key: key.precision == precision
