"""Channel entropy: how evenly the channels share the energy of the features."""

from __future__ import annotations

from orchestrator.report.blocks import Block
from orchestrator.report.contents import Report


def blocks(report: Report) -> tuple[Block, ...]:
    return report.drawn("entropy")
