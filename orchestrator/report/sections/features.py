"""How features grow while training."""

from __future__ import annotations

from orchestrator.report.blocks import Block, Group
from orchestrator.report.contents import Report


def blocks(report: Report) -> tuple[Block, ...]:
    by_group = report.drawn("groups")
    folded = (Group("folded", by_group, "Group by group"),) if by_group else ()
    return (*report.drawn("trace"), *folded)
