"""The sections of a report, in the order of the page. Adding one is a file and a line here.

A section's file has the name of its anchor and a function `blocks`, which turns the report's
numbers into blocks. A section without blocks is left out.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

from orchestrator.report.blocks import Block, Section
from orchestrator.report.contents import Report


class Line(NamedTuple):
    """A section's anchor, its title, the text of the link to it ("" for none); has it figures?"""

    slug: str
    title: str
    link: str
    draws: bool = False

    def blocks(self, report: Report) -> tuple[Block, ...]:
        """The section's blocks.

        The module is imported by name, as in catalogues, so that a section needs one line here, not
        two.
        """
        made: tuple[Block, ...] = importlib.import_module(f"{__name__}.{self.slug}").blocks(report)
        return made


LINES = (
    Line("claims", "Claims", "Claims"),
    Line("short", "In short", "", draws=True),
    Line("quality", "Quality", "Quality"),
    Line("crops", "Restored crops", "Crops"),
    Line("sweeps", "Between the sweeps", "Sweeps"),
    Line("precision", "Low precision", "Precision"),
    Line("tiles", "Tiles", "Tiles"),
    Line("paper", "Beside the paper", "Paper"),
    Line("features", "Feature traces", "Features", draws=True),
    Line("size", "Divergence against size", "Size", draws=True),
    Line("entropy", "Channel entropy", "Entropy", draws=True),
    Line("probes", "Other probes", "Probes", draws=True),
    Line("training", "Training", "Training", draws=True),
    Line("trials", "Trials", "Trials"),
    Line("protocol", "Protocol", "Protocol"),
)


def sections(report: Report) -> tuple[Section, ...]:
    """The sections that have something to say."""
    # Those with figures last, since these may be on their way.
    made = {line: line.blocks(report) for line in sorted(LINES, key=lambda line: line.draws)}
    return tuple(
        Section(line.slug, line.title, line.link, blocks)
        for line in LINES
        if (blocks := made[line])
    )
