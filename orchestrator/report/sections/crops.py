"""What the norms restore, to look at."""

from __future__ import annotations

from orchestrator.report.blocks import Block
from orchestrator.report.contents import Report
from orchestrator.report.crop_plot import figure


def blocks(report: Report) -> tuple[Block, ...]:
    frame = report.frame
    by = [*frame.tables_by, *frame.panels_by]
    return tuple(
        figure(scene, i, f"{frame.named(by, scene.labels)}, {frame.size_words[scene.size]}")
        for i, scene in enumerate(report.scenes, 1)
    )
