"""A night's verdict as text: failures first, then what is undecided, then what passed."""

from __future__ import annotations

import shutil
import textwrap

from orchestrator.regression.measured import Verdict
from orchestrator.regression.verdict import Night, Question

WIDEST, NARROWEST = 100, 20
ORDER: tuple[Verdict, ...] = ("fail", "undecided", "pass")
INDENT = "  "


def as_text(night: Night, width: int | None = None) -> str:
    """What `normsweep regress` prints."""
    width = max(NARROWEST, min(width or shutil.get_terminal_size().columns, WIDEST))
    lines = _wrapped(f"{night.sweep}, {night.date}. {night.sentence}", width, "", INDENT)
    for verdict in ORDER:
        for question in night.with_verdict(verdict):
            lines += _question(question, width)
    return "\n".join(lines)


def _question(question: Question, width: int) -> list[str]:
    said = f": {question.numbers}" if question.numbers else ""
    head = f"{question.verdict.upper()}  {question.name}{said}"
    lines = _wrapped(head, width, "", INDENT * 2)
    if question.remarks:
        lines += _wrapped(question.remarks, width, INDENT * 2, INDENT * 2)
    return lines


def _wrapped(text: str, width: int, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )
