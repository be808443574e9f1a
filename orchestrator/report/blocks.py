"""The blocks of a report: tables, figures and texts, in groups and sections.

Every format is made from these alone, so they hold all that any of them needs: a cell has a value
as well as a text, and a column has heads and an alignment.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from numbers import Real
from typing import Any, ClassVar, Literal

from orchestrator.report.styles import Style

INK = "#1b2c3d"  # stand-in for the page's text colour, in a figure
FILE_INK = "#22272e"
FACETS = ("norm", "task", "size")  # what the page can be filtered by
# Ids that matplotlib gives to every part of a plot, and that nothing refers to.
UNUSED_ID = re.compile(
    r' id="(?:figure|line2d|text|patch|[xy]tick|PathCollection|LineCollection)_\d+"'
)
HASHED = re.compile(r"\b[mp][0-9a-f]{10}\b")  # matplotlib's names of markers and of clipped areas
# What the page has its own of, or what changes nothing.
NEEDLESS = re.compile(r"font-family: [^;]+; ?| transform=\"rotate\(-?0 [^)]*\)\"")
# Styles of grids, ticks and their numbers, by their classes in page.css.
CLASSES = {
    "fill: none; stroke: currentColor; stroke-opacity: 0.13; stroke-width: 0.6; "
    "stroke-linecap: square": "grid",
    "fill: currentColor; stroke: currentColor; stroke-width: 0.7": "tick",
    "font-size: 9px; text-anchor: middle; fill: currentColor": "middle",
    "font-size: 9px; text-anchor: end; fill: currentColor": "end",
}


@dataclass(frozen=True)
class Mark:
    """A few words that stand out in a text: like the best value of a column, or as code."""

    text: str
    style: Literal["best", "code"]


Words = tuple[str | Mark, ...]


@dataclass(frozen=True)
class Text:
    """Sentences in one style; in a `list` each line is an item, otherwise it is a paragraph."""

    kind: ClassVar[str] = "text"
    lines: tuple[Words, ...]
    style: Literal["lead", "method", "list"] = "list"


def text(style: Literal["lead", "method", "list"], *lines: str | Words) -> Text:
    return Text(tuple((line,) if isinstance(line, str) else line for line in lines), style)


@dataclass(frozen=True)
class Cell:
    """One cell: its `text`, small print beside it (`spread`) and below it (`note`), its `value`.

    `is_best`: of the few that may be the best, while others are not. `more`: a long text that the
    page folds away, such as a traceback. `link`: where the text leads. `about`: the facets of the
    cell's row that the cells themselves do not state.
    """

    text: str
    value: Any = None
    spread: str = ""
    note: str = ""
    is_best: bool = False
    is_code: bool = False
    style: Style | None = None  # of the norm, if the cell names one
    state: str = ""  # of the trial, if the cell states it
    more: str = ""
    link: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> str:
        """The number that the page sorts the cell by, in six digits; "" for a text."""
        if isinstance(self.value, bool) or not isinstance(self.value, Real):
            return ""
        number = float(self.value)
        return "" if math.isnan(number) else f"{number:.6g}".replace("inf", "Infinity")

    @property
    def is_plain(self) -> bool:
        """Whether the page shows nothing but the text, as in most of its thousands of cells."""
        return not (
            self.spread
            or self.note
            or self.is_best
            or self.is_code
            or self.style
            or self.more
            or self.link
        )

    @property
    def is_bad(self) -> bool:
        return "diverged" in self.note or "failed" in self.note


@dataclass(frozen=True)
class Column:
    """One column. A label's cells name the rows.

    `heads` go from the top down; neighbouring columns share a head if theirs are equal. `about`:
    the facets of the whole column, such as its task.
    """

    heads: tuple[str, ...]
    align: Literal["left", "right"] = "left"
    is_label: bool = False
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """One head, with the columns and rows that it spans; `is_first` if it begins a group.

    `at` is the number of its first column.
    """

    text: str
    columns: int
    rows: int
    column: Column
    is_first: bool = False
    is_group: bool = False
    at: int = 0


@dataclass(frozen=True)
class Table:
    """Cells in rows. A `comparison` has heads in levels; `facts` are headless names and values.

    `about`: the facets of the whole table, such as its size.
    """

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    remark: str = ""
    style: Literal["plain", "comparison", "facts"] = "plain"
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def narrowest(self) -> int:
        """About how many characters wide the table is where lines break at every space."""
        heads = [_longest(column.heads[-1]) for column in self.columns]
        return sum(
            3 + max([head, *(_wide(row[i]) for row in self.rows)]) for i, head in enumerate(heads)
        )

    def about_row(self, row: Sequence[Cell]) -> dict[str, str]:
        """The norm, task and size of a row, as far as it has them.

        A column that is headed by the name of a facet states it.
        """
        stated = {
            column.heads[-1]: str(cell.value)
            for column, cell in zip(self.columns, row, strict=True)
            if column.heads[-1] in FACETS and cell.value is not None
        }
        for cell in row:
            stated |= cell.about
        return stated

    @property
    def levels(self) -> int:
        return max(len(column.heads) for column in self.columns)

    def head_rows(self) -> list[list[Span]]:
        """The heads, level by level; one without others below it reaches down to the cells."""
        return [self._level(level) for level in range(self.levels)]

    def begins(self, i: int) -> bool:
        """Whether a column is the first of those that share its upper heads."""
        heads = self.columns[i].heads
        return len(heads) > 1 and (i == 0 or self.columns[i - 1].heads[:-1] != heads[:-1])

    def classed(self, row: Sequence[Cell]) -> Iterator[tuple[Cell, bool, str]]:
        """The cells of a row, each with whether it is a label, and with its classes in the page."""
        for cell, (is_label, number, first) in zip(row, self._of_columns, strict=True):
            best, state = " best" if cell.is_best else "", f"state {cell.state}" * bool(cell.state)
            yield cell, is_label, f"{number}{best}{first}{state}"

    @cached_property
    def _of_columns(self) -> list[tuple[bool, str, str]]:
        """Whether each column is a label, and the classes that all of its cells have."""
        return [
            (
                column.is_label,
                "number" if column.align == "right" else "",
                " first" if self.begins(i) else "",
            )
            for i, column in enumerate(self.columns)
        ]

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
                Span(column.heads[level], 1 + len(others), rows, column, begins, not is_last, first)
            )
        return spans

    def _shared(self, i: int, level: int) -> tuple[Any, ...]:
        heads = self.columns[i].heads
        return heads[: level + 1] if level + 1 < len(heads) else (i, *heads)


@dataclass(frozen=True)
class Figure:
    """A plot with its caption. `svg` is drawn in the stand-in INK: see `for_page`, `for_file`.

    `data`: what the page's script needs to know of the plot (orchestrator.report.live), as JSON.
    `element` is `svg` as the page has it, made where the figure is: it takes a while.
    """

    kind: ClassVar[str] = "figure"
    slug: str
    title: str
    caption: str
    svg: str
    data: str = ""
    element: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "element", _element(self.svg))

    def for_page(self, prefix: str) -> str:
        """The SVG element alone, in the page's text colour, its ids made unique by a prefix."""
        svg = self.element.replace(' id="', f' id="{prefix}-')
        svg = svg.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
        return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(self.title)}" ', 1)

    def for_file(self) -> str:
        """The SVG in a fixed dark grey, since a file has no page to take a text colour from."""
        return self.svg.replace(INK, FILE_INK)


def _element(svg: str) -> str:
    """The SVG element without what the page does not need, which is half of it."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = NEEDLESS.sub("", UNUSED_ID.sub("", svg)).replace("xlink:href", "href")
    svg = re.sub(r" ?\n\s*", "\n", svg).replace("\nL ", "L")
    for style, name in CLASSES.items():
        svg = svg.replace(f'style="{style}"', f'class="{name}"')
    names = {name: f"{name[0]}{i}" for i, name in enumerate(dict.fromkeys(HASHED.findall(svg)))}
    return HASHED.sub(lambda found: names[found[0]], svg)


def _longest(text: str) -> int:
    """The characters of the longest word."""
    return max(map(len, text.split(" ")), default=0)


def _wide(cell: Cell) -> int:
    """The characters of a cell's longest word; small print is a fifth smaller."""
    small = max(_longest(cell.spread), _longest(cell.note)) * 4 // 5
    return max(_longest(cell.text), small) + (4 if cell.style else 0)


@dataclass(frozen=True)
class Group:
    """Blocks that belong together: side by side, folded away, or under a title."""

    kind: ClassVar[str] = "group"
    style: Literal["tables", "columns", "titled", "folded"]
    blocks: tuple[Block, ...]
    title: str = ""


Block = Table | Figure | Text | Group


@dataclass(frozen=True)
class Section:
    """A chapter of the report.

    `link` is the text of the link to it, "" for none.
    """

    slug: str
    title: str
    link: str
    blocks: tuple[Block, ...]


def figures_in(blocks: Sequence[Block]) -> list[Figure]:
    """Every figure, including those in groups."""
    found: list[Figure] = []
    for block in blocks:
        if isinstance(block, Figure):
            found.append(block)
        elif isinstance(block, Group):
            found += figures_in(block.blocks)
    return found
