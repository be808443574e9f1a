"""The sections of a report, in the order of the page. Adding one is a file and a line here.

A section is a function from the report's numbers to blocks; one without blocks is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from orchestrator.report.blocks import Block, Section
from orchestrator.report.contents import Report
from orchestrator.report.sections import entropy, features, protocol, quality, short, size, training, trials


class Line(NamedTuple):
    """A section's anchor, its title, the text of the link to it ("" for none), and what makes it."""

    slug: str
    title: str
    link: str
    blocks: Callable[[Report], tuple[Block, ...]]


LINES = (
    Line("short", "In short", "", short.blocks),
    Line("quality", "Quality", "Quality", quality.blocks),
    Line("features", "Feature traces", "Features", features.blocks),
    Line("size", "Divergence against size", "Size", size.blocks),
    Line("entropy", "Channel entropy", "Entropy", entropy.blocks),
    Line("training", "Training", "Training", training.blocks),
    Line("trials", "Trials", "Trials", trials.blocks),
    Line("protocol", "Protocol", "Protocol", protocol.blocks),
)


def sections(report: Report) -> tuple[Section, ...]:
    """The sections that have something to say."""
    made = ((line, line.blocks(report)) for line in LINES)
    return tuple(Section(line.slug, line.title, line.link, blocks) for line, blocks in made if blocks)
