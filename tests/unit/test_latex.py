"""Tables in LaTeX: what they print, and that LaTeX takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexGroupNode, LatexWalker

from orchestrator.report import latex
from orchestrator.report.blocks import Cell, Column, Group, Section, Table, text

ODD = r"""a_b & c%d #1 $x$ {y} ~z ^w \n <u> |v| "q" [r] *s 'p'"""
HEADS = (
    ("norm",),
    ("sr_x2", "Set5", "PSNR (dB)"),
    ("sr_x2", "Set5", "SSIM"),
    ("sr_x2", "Set14", "PSNR (dB)"),
    ("n",),
)
COMPARISON = Table(
    tuple(Column(heads, "right" if i else "left", not i) for i, heads in enumerate(HEADS)),
    (
        (Cell("i_ln"), Cell("32.10", 32.1, "± 0.02"), Cell("0.9"), Cell("-1.5"), Cell("3")),
        (
            Cell("x:Y", is_code=True),
            Cell("3", is_best=True),
            Cell(""),
            Cell("", note=ODD),
            Cell(""),
        ),
    ),
    "HAT & 50 %",
    "in dB",
    style="comparison",
)
FACTS = Table(
    (Column(("",)), Column(("",))),
    ((Cell("Training set"), Cell("long " * 30)), (Cell("[0.9]"), Cell("*"))),
    style="facts",
)
LONG = Table((Column(("trial",)), Column(("state",))), ((Cell("a"), Cell("done")),) * 100, "Many")
SECTION = Section(
    "quality",
    "Quality",
    "",
    (text("lead", "No table."), COMPARISON, Group("columns", (Group("titled", (FACTS,)), LONG))),
)


def plain(source: str) -> str:
    """What LaTeX would print, by an independent reader, which has its own ways with two signs."""
    printed: str = LatexNodes2Text(keep_comments=False).latex_to_text(source)
    return printed.replace("x^2", "x²").replace("\N{MODIFIER LETTER CIRCUMFLEX ACCENT}", "^")


def rows_of(source: str) -> list[str]:
    """The lines of cells: without rules, heads' rules and environments."""
    return [line.removesuffix(r" \\") for line in source.splitlines() if line.endswith(r" \\")]


def columns_in(row: str) -> int:
    """The columns that a row fills: one for each `&` that separates, and those of heads."""
    nodes, _, _ = LatexWalker(row).get_latex_nodes()
    separators = sum(node.latex_verbatim() == "&" for node in nodes)
    spanned = sum(int(number) - 1 for number in re.findall(r"\\multicolumn\{(\d+)\}", row))
    return separators + 1 + spanned


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return latex.files([SECTION, Section("last", "Last", "", (COMPARISON,))], "a_sweep")


@pytest.mark.parametrize(
    "words",
    [
        ODD,
        "\N{GREEK SMALL LETTER RHO} = 0.9 ± 0.1, \N{MULTIPLICATION SIGN}3, x² ≤ 4",
        "\N{EN DASH}—…",
        "val/a_b/psnr",
        "package.module:Class",
        "~/.cache\\x",
        "émigré",
    ],
)
def test_an_escaped_text_is_printed_as_it_was(words: str) -> None:
    printed = plain(latex.escaped(words))
    assert "".join(printed.split()) == "".join(words.split())


def test_hyphens_stay_hyphens_and_minus_signs_become_such() -> None:
    assert latex.escaped("-0.5 to -inf, i-LN, w24-d2, 10-20") == (
        "$-$0.5 to $-$inf, i-LN, w24-d2, 10-20"
    )
    assert latex.escaped("--power ---") == "-{}-power -{}-{}-"


def test_what_cannot_be_printed_becomes_a_space() -> None:
    assert latex.escaped("a\nb\x00\tc") == "a b c"


def test_every_table_is_a_file_and_the_document_inputs_them_all(files: dict[str, str]) -> None:
    parts = [
        "latex/quality-hat-50.tex",
        "latex/quality.tex",
        "latex/quality-many.tex",
        "latex/last-hat-50.tex",
    ]
    assert list(files) == [*parts, "tables.tex"]
    assert re.findall(r"\\input\{(.+?)\}", files["tables.tex"]) == parts


def test_tables_with_one_caption_get_files_and_labels_apart() -> None:
    made = latex.files([Section("a", "A", "", (COMPARISON, COMPARISON, FACTS))], "s")
    assert list(made)[:3] == ["latex/a-hat-50.tex", "latex/a-hat-50-2.tex", "latex/a.tex"]
    labels = [re.findall(r"\\label\{(.+?)\}", made[name]) for name in list(made)[:3]]
    assert labels == [["tab:a-hat-50"], ["tab:a-hat-50-2"], ["tab:a"]]


def test_a_report_without_tables_has_no_latex() -> None:
    assert latex.files([Section("a", "A", "", (text("lead", "Nothing."),))], "s") == {}


@pytest.mark.parametrize("name", ["quality-hat-50", "quality", "quality-many", "last-hat-50"])
def test_every_row_fills_all_columns_and_environments_are_closed(
    files: dict[str, str], name: str
) -> None:
    source = files[f"latex/{name}.tex"]
    (spec,) = re.findall(r"\\begin\{(?:tabular|longtable)\}\{((?:[lr]|p\{\w+\})+)\}", source)
    columns = len(re.findall(r"[lr]|p\{\w+\}", spec))
    assert {columns_in(row) for row in rows_of(source)} == {columns}
    nodes, _, _ = LatexWalker(source, tolerant_parsing=False).get_latex_nodes()  # or it raises
    assert any(isinstance(node, LatexEnvironmentNode | LatexGroupNode) for node in nodes)


def test_heads_span_their_columns_with_a_rule_below(files: dict[str, str]) -> None:
    source = files["latex/quality-hat-50.tex"]
    head = source[source.index(r"\toprule") : source.index(r"\midrule")].splitlines()
    assert [line for line in head if line] == [
        r"\toprule",
        r" & \multicolumn{3}{c}{sr\_x2} &  \\",
        r"\cmidrule(lr){2-4}",
        r" & \multicolumn{2}{c}{Set5} & \multicolumn{1}{c}{Set14} &  \\",
        r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}",
        r"norm & PSNR (dB) & SSIM & PSNR (dB) & n \\",
    ]


def test_cells_keep_their_spread_note_and_marks(files: dict[str, str]) -> None:
    source = files["latex/quality-hat-50.tex"]
    assert r"\begin{tabular}{lrrrr}" in source
    assert r"\caption{HAT \& 50 \%. In dB.}\label{tab:quality-hat-50}" in source
    assert r"i\_ln & 32.10 {\footnotesize $\pm$ 0.02} & 0.9 & $-$1.5 & 3 \\" in source
    assert r"\texttt{x:Y} & \textbf{3} &  & {\footnotesize (a\_b" in source


def test_facts_have_no_head_and_long_cells_are_broken(files: dict[str, str]) -> None:
    source = files["latex/quality.tex"]
    assert r"\begin{tabular}{lp{22em}}" in source
    assert r"\midrule" not in source
    assert r"{[}0.9] & {*} \\" in source


def test_a_table_longer_than_a_page_repeats_its_head(files: dict[str, str]) -> None:
    source = files["latex/quality-many.tex"]
    assert r"\begin{longtable}{ll}" in source
    assert source.index(r"trial & state \\") < source.index(r"\endhead")
    assert source.count(r"a & done \\") == 100


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX here")
def test_the_document_compiles(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "latex").mkdir()
    for name, source in files.items():
        (tmp_path / name).write_text(source)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=200, check=False)
    assert made.returncode == 0, made.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 1000
