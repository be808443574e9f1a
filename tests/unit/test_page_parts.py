"""What the page says of failures, scoring and numbers, and what its script needs to be told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure as Canvas

from orchestrator.report.blocks import Cell, Column, Table
from orchestrator.report.drawing import RC, svg
from orchestrator.report.page import write_report
from orchestrator.report.scoring import scored
from orchestrator.report.words import alike, brief
from orchestrator.store import FolderStore, open_store
from orchestrator.store.attempts import write_failure
from tests.sweeps import comparing, plan_of
from tests.written_store import write_attempt, write_ended

TRACEBACK = (
    "Traceback (most recent call last):\n"
    + '  File "module.py", line 1751, in _call_impl\n    return forward_call(*args)\n' * 20
    + "RuntimeError: The size of tensor a (16) must match the size of tensor b (8)\n"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The report on two norms, of which one failed with a long traceback."""
    folder = tmp_path_factory.mktemp("failed")
    plan = plan_of(folder, comparing(seed="0", width="12, 24", depth="2", training="steps: 40"))
    store = open_store(str(folder / "runs"))
    for trial in plan.trials:
        if trial.axes["norm"] == "i_ln":
            attempt = write_attempt(store, trial, 20)
            write_failure(store, trial.id, attempt, "own code", TRACEBACK, final=True, step=20)
        else:
            write_ended(store, trial)
    return dict(write_report(plan, str(folder / "runs"), None, folder / "out").files)


def test_a_failure_is_one_line_of_the_table_and_its_traceback_is_folded_away(
    files: dict[str, str],
) -> None:
    page, error = files["index.html"], TRACEBACK.splitlines()[-1]
    assert f'<span class="note">{error}</span>' in page
    folded = re.findall(r'<details class="more"><summary>.*?</details>', page, re.DOTALL)
    assert len(folded) == 2
    assert all("_call_impl" in part for part in folded)
    rest = re.sub(r'<details class="more">.*?</details>', "", page, flags=re.DOTALL)
    assert "_call_impl" not in rest
    assert "_call_impl" not in files["report.md"]
    assert "_call_impl" in files["trials.csv"]


def test_in_short_names_what_failed_and_why(files: dict[str, str]) -> None:
    short = files["report.md"].partition("## In short")[2].partition("\n## ")[0]
    error = TRACEBACK.splitlines()[-1]
    assert re.search(rf"- Failed: i_ln .+, i_ln .+\. The first: {re.escape(error)}\.", short)


def test_in_short_stands_where_every_trial_failed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, comparing(seed="0", training="steps: 40"))
    store = open_store(str(tmp_path / "runs"))
    for trial in plan.trials:
        attempt = write_attempt(store, trial, 0)
        write_failure(store, trial.id, attempt, "own code", TRACEBACK, final=True)
    written = write_report(plan, str(tmp_path / "runs"), None, tmp_path / "out").files
    short = written["report.md"].partition("## In short")[2].partition("\n## ")[0]
    assert "\n- Failed: " in short
    assert '<section aria-labelledby="short"' in written["index.html"]


def test_in_a_store_the_page_is_written_after_all_that_it_refers_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, comparing(seed="0", training="steps: 40"))
    store = open_store(str(tmp_path / "runs"))
    for trial in plan.trials:
        write_ended(store, trial)
    written: list[str] = []
    put = FolderStore.put

    def noted(self: FolderStore, key: str, content: bytes) -> None:
        put(self, key, content)
        written.append(key)

    monkeypatch.setattr(FolderStore, "put", noted)
    files = write_report(plan, str(tmp_path / "runs")).files
    *others, last = (key.split("/report/")[1] for key in written)
    assert last == "index.html"
    assert sorted(others) == sorted(set(files) - {last})


def test_only_the_script_makes_tab_stops(files: dict[str, str]) -> None:
    """It knows which boxes overflow; the page without it has none."""
    assert "tabindex=" not in files["index.html"]


def test_every_file_beside_the_page_is_linked(files: dict[str, str]) -> None:
    foot = files["index.html"].partition("<footer>")[2]
    linked = re.findall(r'<a href="([^"]+)">', foot)
    assert {name for name in files if "/" not in name} - {"index.html"} == set(linked) - {
        "figures/"
    }


def test_numbers_of_a_column_have_equal_decimals() -> None:
    def shown(*values: float | None) -> list[str]:
        write = alike(values)
        return [write(value) for value in values]

    assert shown(0.1, 0.136) == ["0.100", "0.136"]
    assert shown(1.1, 11.7, None) == ["1.1", "11.7", "\N{EN DASH}"]
    assert shown(0.0509, 2.817) == ["0.051", "2.817"]
    assert shown(0.386, 48.99) == ["0.39", "48.99"]
    assert shown(0.0, -0.25, float("inf")) == ["0.000", "-0.250", "∞"]
    assert shown(1e-9, 4e4) == ["1e-09", "40,000"]  # no decimals suit both
    assert shown() == []


def test_a_figure_rounds_places_and_no_number_that_is_read() -> None:
    canvas = Canvas()
    axes = canvas.subplots()
    axes.plot([0.0, 1.0], [0.123456, 0.654321])
    axes.set_title("slope 0.8887 [0.3861, 1.2345]")
    with rc_context(RC):
        drawn = svg(canvas)
    assert "slope 0.8887 [0.3861, 1.2345]" in drawn
    places = [place for path in re.findall(r'\bd="([^"]*)"', drawn) for place in path.split()]
    decimals = {len(place.partition(".")[2]) for place in places}
    assert max(decimals) == 2


def test_the_growths_of_a_report_have_equal_decimals(files: dict[str, str]) -> None:
    table = files["report.md"].partition("### Growth of the features")[2].partition("\n\n#")[0]
    grown = re.findall("\N{MULTIPLICATION SIGN} ([0-9.]+)", table)
    assert len(grown) >= 2
    assert len({len(number.partition(".")[2]) for number in grown}) == 1


def test_a_reason_in_brief_is_the_error_of_a_traceback_or_the_first_line() -> None:
    assert brief(TRACEBACK) == TRACEBACK.splitlines()[-1]
    assert brief("disk full\nand more") == "disk full"
    assert brief("") == ""
    assert len(brief("x" * 1_000)) == 160


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("jpeg_40", "jpeg_40: RGB, no border; Pillow's encoder, chroma 4:2:0; quality 40. Scores"),
        ("{name: derain}", "derain: Y channel of BT.601, no border; the set's own pairs. Scores"),
        ("sr_x2", "sr_x2: Y channel of BT.601, a border as wide as the scale left out; 8-bit LQ;"),
    ],
)
def test_how_a_task_is_scored_stands_below_its_scores(task: str, said: str, tmp_path: Path) -> None:
    text = comparing(task=task).replace("embedded-test", "")
    if "derain" in task:
        text = comparing(task="derain_synthetic")
        said = "derain_synthetic: Y channel of BT.601, no border; streaks from seed 0"
    plan = plan_of(tmp_path, text)
    (line,) = scored(plan, {})
    assert line.startswith(said)


def test_a_row_is_about_its_norm_task_and_size(files: dict[str, str]) -> None:
    page = files["index.html"]
    assert '<tr data-norm="i_ln" data-task="sr_x2" data-size="w24 d2">' in page
    assert re.search(r'<table class="comparison" data-size="w24 d2"', page)
    assert re.search(r'<th data-task="sr_x2" scope="col" data-at="\d+"', page)


def test_cells_rank_by_their_value_and_not_by_their_text() -> None:
    assert Cell("1 234", 1234).rank == "1234"
    assert Cell("0.25", 0.251234567).rank == "0.251235"
    assert Cell("∞", float("inf")).rank == "Infinity"  # as the script reads it
    assert [Cell("x", value).rank for value in ("x", None, True, float("nan"))] == ["", "", "", ""]


def test_a_table_is_as_narrow_as_its_longest_words() -> None:
    columns = (Column(("norm",), is_label=True), Column(("a long head",), "right"))
    assert Table(columns, ((Cell("layer_norm"), Cell("1")),)).narrowest == 10 + 4 + 2 * 3


def test_a_figure_says_what_its_marks_stand_for(files: dict[str, str]) -> None:
    page = files["index.html"]
    for data, plot in zip(
        re.findall(r'<script type="application/json">(.*?)</script>', page),
        re.findall(r'<div class="plot">(.*?)</div>', page, re.DOTALL),
        strict=True,
    ):
        for panel in json.loads(data)["panels"]:
            assert panel["about"]["task"] == "sr_x2"
            assert f'-{panel["id"]}"' in plot
            for name, kind, norm, *labels in panel["marks"]:
                assert f'-{name}"' in plot
                assert kind in ("line", "lines", "dots", "top")
                assert norm in ("layer_norm", "i_ln")
                assert all(label.startswith(("seed 0", "median")) for label in labels)
