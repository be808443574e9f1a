"""What tiles cost each norm: scores of images restored tile by tile minus those of whole images."""

from __future__ import annotations

from orchestrator.report import drop_tables
from orchestrator.report.blocks import Block, text
from orchestrator.report.contents import Report

METHOD = (
    "Each trial's score in tiles (side + context, in LQ pixels) minus the same trial's on whole "
    "images, by image; below 0, tiles are worse. In brackets: 95 % intervals of t for other seeds "
    "on these images, or, with one seed, for other images with these weights. A norm with "
    "statistics over the whole image (i-LN, InstanceNorm) is another function in tiles."
)


def blocks(report: Report) -> tuple[Block, ...]:
    tables = drop_tables.tables(report, "tile", "scores in tiles minus whole images")
    missing = drop_tables.missing(report, [("tiles", lambda key: bool(key.tile))], "--tile 64")
    return (*tables, *((text("method", METHOD),) if tables else ()), *missing)
