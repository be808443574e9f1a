"""The tables of a report in LaTeX, with rules of booktabs.

    tables.tex        a document that compiles by itself and inputs every table
    latex/<slug>.tex  one table, for `\\input` in a paper

A table is a float, shrunk to the width of a line if it is wider; one with too many rows for a page
is a longtable. The preamble needs booktabs, and graphicx or longtable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import jinja2

from orchestrator.report.blocks import Block, Cell, Column, Group, Section, Table

MOST_ROWS = 40  # of a float: more do not fit on a page
LONGEST_CELL = 48  # characters, of a cell that is not broken into lines
WRAPPED = "p{22em}"
LONGEST_SLUG = 60
WHOLE = "tables.tex"  # all tables

# What LaTeX would take for a command, and what pdflatex has no letter for. A bracket after a line's
# end would be the distance to the next line, and a star there would forbid a page break.
SPECIAL: Mapping[str, str] = MappingProxyType(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": "$<$",
        ">": "$>$",
        "|": "$|$",
        "[": "{[}",
        "*": "{*}",
        "\N{NO-BREAK SPACE}": "~",
        "\N{NARROW NO-BREAK SPACE}": r"\,",
        "\N{EN DASH}": r"\textendash{}",
        "\N{EM DASH}": r"\textemdash{}",
        "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
        "\N{MINUS SIGN}": "$-$",
        "\N{MULTIPLICATION SIGN}": r"$\times$",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "\N{SUPERSCRIPT TWO}": "$^2$",
        "\N{MIDDLE DOT}": r"$\cdot$",
        "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
        "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
        "\N{INFINITY}": r"$\infty$",
        "\N{RIGHTWARDS ARROW}": r"$\to$",
        "\N{GREEK SMALL LETTER RHO}": r"$\rho$",
        "\N{GREEK SMALL LETTER SIGMA}": r"$\sigma$",
    }
)
UNPRINTED = re.compile(r"[\x00-\x20\x7f]+")
MINUS = re.compile(r"(?<![\w-])-(?=\.?\d|inf)")
HYPHENS = re.compile("-(?=-)")  # two would become a dash


@dataclass(frozen=True)
class Head:
    """One head of a level; `last` is the column it ends in, counted from 1."""

    text: str
    columns: int
    last: int
    is_group: bool

    def __str__(self) -> str:
        text = escaped(self.text)
        return f"\\multicolumn{{{self.columns}}}{{c}}{{{text}}}" if self.is_group else text

    @property
    def rule(self) -> str:
        """The rule under a group."""
        return f"\\cmidrule(lr){{{self.last - self.columns + 1}-{self.last}}}"


def escaped(text: str) -> str:
    """A text as LaTeX that prints it: every special character escaped, minus signs as such."""
    text = MINUS.sub("\N{MINUS SIGN}", UNPRINTED.sub(" ", text))
    return HYPHENS.sub("-{}", "".join(SPECIAL.get(character, character) for character in text))


def cell_text(cell: Cell) -> str:
    """A cell as LaTeX."""
    text = escaped(cell.text)
    if text and (cell.is_best or cell.is_code):
        text = f"\\textbf{{{text}}}" if cell.is_best else f"\\texttt{{{text}}}"
    small = [escaped(cell.spread)] if cell.spread else []
    small += [f"({escaped(cell.note)})"] if cell.note else []
    return " ".join([*([text] if text else []), *(f"{{\\footnotesize {s}}}" for s in small)])


def files(sections: Sequence[Section], sweep: str) -> dict[str, str]:
    """The LaTeX of every table of these sections, by file name; `tables.tex` is the last one."""
    parts: dict[str, str] = {}
    template = _environment().get_template("table.tex.j2")
    for section in sections:
        for table in _tables(section.blocks):
            slug = _slug(section, table, parts)
            parts[f"latex/{slug}.tex"] = template.render(
                table=table,
                slug=slug,
                caption=_caption(section, table),
                heads=_heads(table),
                columns="".join(_columns(table)),
                is_long=len(table.rows) > MOST_ROWS,
            )
    if not parts:
        return {}
    whole = _environment().get_template("tables.tex.j2")
    return {**parts, WHOLE: whole.render(sweep=sweep, parts=list(parts))}


def has_tables(sections: Sequence[Section]) -> bool:
    """Whether `files` gives any."""
    return any(True for section in sections for _ in _tables(section.blocks))


def _tables(blocks: Sequence[Block]) -> Iterator[Table]:
    """Every table, including those in groups."""
    for block in blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Group):
            yield from _tables(block.blocks)


def _slug(section: Section, table: Table, taken: Mapping[str, str]) -> str:
    """`quality-swinir-tiny-w12-d2`: from its section and caption, so that it stays the same."""
    words = re.findall("[a-z0-9]+", table.caption.lower())
    slug = "-".join([section.slug, *words])[:LONGEST_SLUG].rstrip("-")
    number = 1
    while f"latex/{slug if number == 1 else f'{slug}-{number}'}.tex" in taken:
        number += 1
    return slug if number == 1 else f"{slug}-{number}"


def _caption(section: Section, table: Table) -> str:
    remark = f". {table.remark[0].upper()}{table.remark[1:]}" if table.remark else ""
    return f"{table.caption or section.title}{remark}."


def _columns(table: Table) -> Iterator[str]:
    """The kind of each column: r, l, or a paragraph where a cell is long."""
    for i, column in enumerate(table.columns):
        cells = (row[i] for row in table.rows)
        longest = max((len(cell.text + cell.spread + cell.note) for cell in cells), default=0)
        yield "r" if column.align == "right" else WRAPPED if longest > LONGEST_CELL else "l"


def _heads(table: Table) -> list[list[Head]]:
    """The heads, level by level; one without others below it stands in the last level.

    Facts have none.
    """
    if table.style == "facts":
        return []
    return [list(_level(table.columns, level, table.levels - 1)) for level in range(table.levels)]


def _level(columns: Sequence[Column], level: int, lowest: int) -> Iterator[Head]:
    begin = 0
    while begin < len(columns):
        heads, end = columns[begin].heads, begin + 1
        is_group = level + 1 < len(heads)
        while is_group and end < len(columns) and _is_shared(columns[end], heads, level):
            end += 1
        text = heads[level] if is_group else heads[-1] if level == lowest else ""
        yield Head(text, end - begin, end, is_group)
        begin = end


def _is_shared(column: Column, heads: tuple[str, ...], level: int) -> bool:
    return level + 1 < len(column.heads) and column.heads[: level + 1] == heads[: level + 1]


def _environment() -> jinja2.Environment:
    # LaTeX is full of braces and per cent signs, so the templates have other marks.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        autoescape=False,  # noqa: S701 - it is not HTML; see the filter `tex`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"tex": escaped, "cell": cell_text, "head": str}
    return environment
