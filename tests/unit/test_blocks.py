"""Sections make blocks, and the page and the Markdown are made of nothing else."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from orchestrator.report import sections
from orchestrator.report.blocks import (
    Cell,
    Column,
    Figure,
    Group,
    Mark,
    Table,
    Text,
    figures_in,
    text,
)
from orchestrator.report.contents import Report, build
from orchestrator.report.frame import read_frame
from orchestrator.report.page import render
from orchestrator.store import open_store
from tests.sweeps import comparing, plan_of

SWEEP = comparing()
SVG = (
    '<?xml version="1.0"?>\n<svg viewBox="0 0 1 1">'
    '<g id="a"><text fill="#1b2c3d">x</text></g></svg>'
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report on a sweep that has not begun."""
    folder = tmp_path_factory.mktemp("blocks")
    plan = plan_of(folder, SWEEP, "held")
    return build(
        plan, read_frame(plan, open_store(str(folder / "runs"))), datetime(2026, 1, 2, tzinfo=UTC)
    )


def heads(table: Table) -> list[list[tuple[str, int, int]]]:
    return [[(span.text, span.columns, span.rows) for span in level] for level in table.head_rows()]


def test_neighbours_share_the_heads_that_are_alike_and_a_lone_head_reaches_down() -> None:
    columns = [Column(("norm",), is_label=True)]
    columns += [
        Column((task, "Set5", unit), "right")
        for task in ("sr_x2", "sr_x4")
        for unit in ("PSNR", "SSIM")
    ]
    table = Table(tuple(columns), ())
    assert heads(table) == [
        [("norm", 1, 3), ("sr_x2", 2, 1), ("sr_x4", 2, 1)],
        [("Set5", 2, 1), ("Set5", 2, 1)],
        [("PSNR", 1, 1), ("SSIM", 1, 1), ("PSNR", 1, 1), ("SSIM", 1, 1)],
    ]
    assert [table.begins(i) for i in range(5)] == [False, True, False, True, False]


def test_columns_with_the_same_head_stay_two() -> None:
    assert heads(Table((Column(("seed",)), Column(("seed",))), ())) == [
        [("seed", 1, 1), ("seed", 1, 1)]
    ]


def test_figures_are_found_in_groups() -> None:
    one, other = (Figure(name, name, "", SVG) for name in ("one", "other"))
    assert figures_in((one, Group("columns", (Group("folded", (other,), "More"),)))) == [one, other]


def test_a_section_without_blocks_is_left_out(report: Report) -> None:
    there = [section.slug for section in sections.sections(report)]
    assert there == [line.slug for line in sections.LINES if line.blocks(report)]
    assert {"quality", "trials", "protocol"} <= set(there)
    assert not {"short", "features", "size"} & set(there)


def test_a_section_is_a_function_and_a_line(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page, Markdown, contents and files follow from its blocks."""
    row = (Cell("a|b<c", 1), Cell("2.50", 2.5, spread="± 0.10", note="n = 2", is_best=True))
    table = Table(
        (Column(("what",), is_label=True), Column(("how much",), "right")),
        (row,),
        "Sizes & all",
        "in m",
    )
    words = Text((("See ", Mark("x.py", "code"), "."),), "method")

    def blocks(of: Report) -> tuple[Table | Text | Figure, ...]:
        assert of is report
        return (
            table,
            words,
            Figure("mine-1", "Mine", "What it shows.", SVG),
            text("list", "one", "two"),
        )

    monkeypatch.setitem(sys.modules, f"{sections.__name__}.mine", SimpleNamespace(blocks=blocks))
    monkeypatch.setattr(
        sections, "LINES", (sections.Line("mine", "My section", "Mine"), *sections.LINES)
    )
    files = render(report)
    page, markdown = files["index.html"], files["report.md"]
    links = re.findall(r'<a href="#(\w+)">', page)
    assert links == [line.slug for line in sections.LINES if line.link and line.blocks(report)]
    assert links[0] == "mine"
    assert '<a href="#mine">Mine</a>' in page
    assert '<h2 id="mine">My section</h2>' in page
    assert '<caption>Sizes &amp; all <span class="quiet">in m</span></caption>' in page
    assert '<th scope="row">a|b&lt;c</th>' in page
    said = '<span class="sr"> may be the best</span>'
    best = f'<td class="number best" data-rank="2.5"><span class="value">2.50</span>{said}'
    assert f'{best} <span class="spread">± 0.10</span><span class="note">n = 2</span></td>' in page
    assert '<p class="method">See <code>x.py</code>.</p>' in page
    assert (
        '<svg role="img" aria-label="Mine" viewBox="0 0 1 1">'
        '<g id="f0-a"><text fill="currentColor">' in page
    )
    assert "<ul><li>one</li><li>two</li></ul>" in page
    assert "| what | how much |\n|---|---:|\n| a\\|b&lt;c | **2.50** ± 0.10 (n = 2) |\n" in markdown
    for part in ("## My section\n", "### Sizes & all\n\nin m\n", "See `x.py`.\n", "- one\n- two\n"):
        assert part in markdown
    assert "![Mine](figures/mine-1.svg)\n\nWhat it shows.\n" in markdown
    assert files["figures/mine-1.svg"].endswith('<text fill="#22272e">x</text></g></svg>')
    assert list(files)[-1] == "index.html"


def test_a_cell_has_its_value_beside_its_text(report: Report) -> None:
    """So other formats need not read numbers out of texts."""
    (trials,) = (section for section in sections.sections(report) if section.slug == "trials")
    (table,) = trials.blocks
    assert isinstance(table, Table)
    parameters = [column.heads for column in table.columns].index(("parameters",))
    assert [row[parameters].value for row in table.rows] == list(report.frame.trials["parameters"])
    assert all(cell.value is not None or not cell.text for row in table.rows for cell in row)


def test_no_file_is_written_where_no_image_was_scored(report: Report) -> None:
    files = render(report)
    assert "images.csv" not in files
    assert "images.csv" not in files["index.html"]
