"""What a report is made of: tables, figures and texts, in groups and sections.

Every format is made from these alone, so they hold what any of them needs: a cell has its value
beside its text, a column its heads and its alignment.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Literal

INK = "#1b2c3d"  # stands for the page's text colour in a figure
FILE_INK = "#22272e"


@dataclass(frozen=True)
class Style:
    """How a norm is drawn, in every figure and beside its name."""

    colour: str
    marker: str
    dash: Any


@dataclass(frozen=True)
class Mark:
    """A few words of a text that stand out: as the best of a column does, or as code."""

    text: str
    style: Literal["best", "code"]


Words = tuple[str | Mark, ...]


@dataclass(frozen=True)
class Text:
    """Sentences of one kind; a `list` has a line for each, the others are paragraphs."""

    kind: ClassVar[str] = "text"
    lines: tuple[Words, ...]
    style: Literal["lead", "method", "list"] = "list"


def text(style: Literal["lead", "method", "list"], *lines: str | Words) -> Text:
    return Text(tuple((line,) if isinstance(line, str) else line for line in lines), style)


@dataclass(frozen=True)
class Cell:
    """One cell: its `text`, what stands small beside it and below it, and the `value` behind it."""

    text: str
    value: Any = None
    spread: str = ""
    note: str = ""
    is_best: bool = False
    is_code: bool = False
    style: Style | None = None  # of the norm that it names
    state: str = ""  # of the trial that it speaks of

    @property
    def is_bad(self) -> bool:
        return "diverged" in self.note or "failed" in self.note


@dataclass(frozen=True)
class Column:
    """One column. `heads` go from the top down, and neighbours share equal ones; a label names rows."""

    heads: tuple[str, ...]
    align: Literal["left", "right"] = "left"
    is_label: bool = False


@dataclass(frozen=True)
class Span:
    """One head over so many columns and rows; `is_first` where it begins a group."""

    text: str
    columns: int
    rows: int
    column: Column
    is_first: bool = False
    is_group: bool = False


@dataclass(frozen=True)
class Table:
    """Cells in rows. A `comparison` has heads in levels; `facts` are names with their values, headless."""

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    remark: str = ""
    style: Literal["plain", "comparison", "facts"] = "plain"

    @property
    def levels(self) -> int:
        return max(len(column.heads) for column in self.columns)

    def head_rows(self) -> list[list[Span]]:
        """The heads, level by level; one that has no others below it reaches down to the cells."""
        return [self._level(level) for level in range(self.levels)]

    def begins(self, i: int) -> bool:
        """Whether a column is the first one below the heads that it shares."""
        heads = self.columns[i].heads
        return len(heads) > 1 and (i == 0 or self.columns[i - 1].heads[:-1] != heads[:-1])

    def _level(self, level: int) -> list[Span]:
        spans = []
        there = [i for i, column in enumerate(self.columns) if len(column.heads) > level]
        for _, run in groupby(there, key=lambda i: self._shared(i, level)):
            first, *others = run
            column = self.columns[first]
            is_last = level + 1 == len(column.heads)
            rows = self.levels - level if is_last else 1
            begins = self.begins(first) and is_last
            spans.append(
                Span(column.heads[level], 1 + len(others), rows, column, begins, not is_last)
            )
        return spans

    def _shared(self, i: int, level: int) -> tuple[Any, ...]:
        heads = self.columns[i].heads
        return heads[: level + 1] if level + 1 < len(heads) else (i, *heads)


@dataclass(frozen=True)
class Figure:
    """A plot with its caption. `svg` has the stand-in ink; see `for_page` and `for_file`."""

    kind: ClassVar[str] = "figure"
    slug: str
    title: str
    caption: str
    svg: str

    def for_page(self) -> str:
        """The SVG element alone, in the page's text colour, its ids made unique in the page."""
        svg = self.svg[self.svg.index("<svg") :].replace(INK, "currentColor")
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.slug}-", svg)
        return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(self.title)}" ', 1)

    def for_file(self) -> str:
        return self.svg.replace(INK, FILE_INK)


@dataclass(frozen=True)
class Group:
    """Blocks that belong together: side by side, folded away, or under a title of their own."""

    kind: ClassVar[str] = "group"
    style: Literal["tables", "columns", "titled", "folded"]
    blocks: tuple[Block, ...]
    title: str = ""


Block = Table | Figure | Text | Group


@dataclass(frozen=True)
class Section:
    """A chapter of the report; `link` is what leads to it, if anything does."""

    slug: str
    title: str
    link: str
    blocks: tuple[Block, ...]


def figures_in(blocks: Sequence[Block]) -> list[Figure]:
    """Every figure, groups looked into."""
    found: list[Figure] = []
    for block in blocks:
        if isinstance(block, Figure):
            found.append(block)
        elif isinstance(block, Group):
            found += figures_in(block.blocks)
    return found
