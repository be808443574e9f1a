"""Scores and loss while training."""

from __future__ import annotations

from orchestrator.report.blocks import Block
from orchestrator.report.contents import Report


def blocks(report: Report) -> tuple[Block, ...]:
    return (*report.drawn("psnr"), *report.drawn("loss"))
