"""The page in a browser: accessible, on paper, on a small screen, by pointer and by keyboard."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.page import write_report
from orchestrator.store import open_store
from orchestrator.store.attempts import write_failure
from tests.sweeps import comparing, plan_of
from tests.written_store import records, write_attempt, write_ended

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

AXES = {
    "norm": "layer_norm, i_ln, {name: i_ln, eps: 1.0e-3}",
    "task": "sr_x2, jpeg_40",
    "width": "12, 24",
    "seed": "0, 1",
}
SWEEP = comparing(
    question="Which norm holds its features when the network grows?",
    training="steps: 40, batch_size: 4, patch_size_px: 16",
    **AXES,
)
LOOKS = {
    "light": {"viewport": {"width": 1440, "height": 900}},
    "dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "small": {"viewport": {"width": 400, "height": 800}},
}
PLACE = """([plot, panel, norm, label, at]) => {
  const one = plots[plot].panels[panel];
  const points = one.marks.filter((mark) => mark.norm === norm).flatMap((m) => [...m.points()]);
  const { x, y } = points.filter((p) => p.mark.label(p.curve).startsWith(label))[at];
  plots[plot].box.scrollIntoView({ block: "center", behavior: "instant" });
  const { x: left, y: top } = new DOMPoint(x, y).matrixTransform(plots[plot].svg.getScreenCTM());
  return [left, top];
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on a sweep with a trial that failed and one that diverged, and a long name."""
    folder = tmp_path_factory.mktemp("browser")
    plan = plan_of(folder, SWEEP, "the_norm_that_holds_its_features")
    store = open_store(str(folder / "runs"))
    error = "Traceback (most recent call last):\n" + '  File "x.py", line 1\n' * 30 + "OSError: no"
    for i, trial in enumerate(plan.trials):
        if i == 1:
            attempt = write_attempt(store, trial, 20)
            write_failure(store, trial.id, attempt, "own code", error, final=True, step=20)
        else:
            write_ended(store, trial, outcome="diverged" if i == 2 else "completed")
    return Path(write_report(plan, str(folder / "runs"), None, folder / "out").page)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def opened(browser: Any, page: Path, **look: Any) -> Any:
    """A new window with the page; an error of its script fails the test, and so does a request."""
    window = browser.new_context(**look).new_page()
    window.set_default_timeout(120_000)
    window.on("pageerror", lambda error: pytest.fail(str(error)))
    asked: list[str] = []
    window.on("request", lambda request: asked.append(request.url))
    window.goto(page.as_uri())
    assert asked == [page.as_uri()]
    return window


@pytest.fixture(scope="module")
def window(browser: Any, page: Path) -> Any:
    """One window that tests of the script share; each leaves it as it was."""
    return opened(browser, page, **LOOKS["light"])


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(look: str, browser: Any, page: Path) -> None:
    shown = opened(browser, page, **LOOKS[look])
    shown.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    found = axe.Axe().run(shown).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    wide, room = shown.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= room, "the page scrolls sideways"
    stops = """[...document.querySelectorAll(".scroll[tabindex]")].every(
        (box) => box.scrollWidth > box.clientWidth)"""
    assert shown.evaluate(stops), "a box that does not scroll is a tab stop"
    shown.context.close()


def test_paper_clips_nothing(browser: Any, page: Path) -> None:
    a4 = {"width": 695, "height": 1010}  # CSS pixels of A4 without its margins
    shown = opened(browser, page, viewport=a4)
    shown.emulate_media(media="print")
    shown.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    beyond = """[...document.querySelectorAll("table, svg, figure, p, pre, li")].filter((one) => {
      const box = one.getBoundingClientRect();
      const isTall = one.matches("svg") && box.height > 1010;
      return box.right > innerWidth + 1 || isTall;
    }).map((one) => one.outerHTML.slice(0, 120))"""
    assert shown.evaluate(beyond) == []
    assert shown.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    shown.context.close()


def test_without_its_script_the_page_has_every_figure_and_legend(browser: Any, page: Path) -> None:
    shown = opened(browser, page, java_script_enabled=False, **LOOKS["light"])
    plots = shown.locator(".plot > svg")
    assert plots.count() >= 5
    assert plots.first.locator('[id$="-legend_1"]').is_visible()
    assert shown.locator(".keys, .filters").count() == 0
    shown.context.close()


def told_at(window: Any, *place: Any) -> list[str]:
    window.mouse.move(*window.evaluate(PLACE, list(place)))
    said: str = window.locator(".tip").inner_text()
    return said.split("\n")


def written_at(page: Path, step: int) -> float:
    """The largest group's mean square of i_ln on sr_x2 at w12, seed 1, as its journal has it."""
    plan = plan_of(page.parent, SWEEP, "again")
    wanted = {"norm": "i_ln", "task": "sr_x2", "width": 12, "seed": 1}
    (trial,) = (one for one in plan.trials if wanted.items() <= one.axes.items())
    for record in records(trial, 40, diverge=False):
        if record["step"] == step and "values" in record:
            values = record["values"].items()
            return max(float(v) for name, v in values if name.startswith("feature/mean_square/"))
    raise AssertionError(step)


def test_a_point_says_its_norm_seed_step_and_value(window: Any, page: Path) -> None:
    head, step, value = told_at(window, 0, 0, "i_ln", "seed 1", 3)
    assert head == "i_ln, seed 1"
    assert step == "step 30"
    name, _, number = value.rpartition(" ")
    assert name == "max mean square"
    assert float(number) == pytest.approx(written_at(page, 30), rel=2e-3)


def test_another_scale_moves_points_and_changes_no_value(window: Any) -> None:
    place = (0, 0, "i_ln", "geometric mean", 4)
    before, at = told_at(window, *place), window.evaluate(PLACE, list(place))
    assert "seeds: " in before[-1]
    button = window.locator("figure").first.get_by_role("button", name="log y")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert window.evaluate(PLACE, list(place)) != at
    after = told_at(window, *place)
    assert [re.sub(r"[\d.]+$", "", line) for line in after] == [
        re.sub(r"[\d.]+$", "", line) for line in before
    ]
    assert float(after[2].split()[-1]) == pytest.approx(float(before[2].split()[-1]), rel=3e-3)
    assert window.locator("figure").first.locator(".ours text").count() >= 3
    button.click()
    assert window.locator("figure").first.locator(".ours").count() == 0
    assert told_at(window, *place) == before


def test_arrow_keys_read_the_points(window: Any) -> None:
    window.mouse.move(1, 1)
    window.locator(".plot").first.focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        window.keyboard.press(key)
        said.append(window.locator(".tip").inner_text().split("\n")[:2])
    assert [line[1] for line in said] == ["step 0", "step 10", "step 10"]
    assert said[0][0] == said[1][0] != said[2][0]
    window.keyboard.press("Escape")
    assert window.locator(".tip").is_hidden()


def test_a_legend_toggles_a_norm_of_its_figure(window: Any) -> None:
    figure = window.locator("figure").first
    key = figure.get_by_role("button", name="layer_norm")
    hidden = "plots[0].panels.flatMap((p) => p.marks).filter((m) => !m.isShown).map((m) => m.norm)"
    key.click()
    assert set(window.evaluate(hidden)) == {"layer_norm"}
    assert window.evaluate(hidden.replace("plots[0]", "plots[1]")) == []
    key.click()
    assert window.evaluate(hidden) == []


def test_a_click_or_a_key_on_a_head_sorts_by_numbers(window: Any) -> None:
    table = window.locator("#trials ~ .scroll table")
    rows = table.locator("tbody tr")
    first = rows.all_inner_texts()
    head = table.get_by_role("button", name="parameters")
    head.click()
    column = window.evaluate(
        """[...document.querySelectorAll("#trials ~ .scroll tbody tr")].map(
            (row) => Number(row.cells[3].dataset.rank))"""
    )
    assert column == sorted(column)
    assert len(set(column)) > 2
    head.press("Enter")
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert rows.all_inner_texts() != first
    head.press("Space")
    assert rows.all_inner_texts() == first


def test_filters_leave_the_rows_columns_and_panels_that_are_chosen(window: Any) -> None:
    bar = window.get_by_role("form", name="Filters")
    bar.get_by_label("size").select_option("w24 d2")
    bar.get_by_label("task").select_option("jpeg_40")
    bar.get_by_role("button", name="i_ln", exact=True).click()
    rows = window.locator("#trials ~ .scroll tbody tr:visible").all_inner_texts()
    assert len(rows) == 4
    assert all("jpeg_40" in row and "w24" in row and not row.startswith("i_ln j") for row in rows)
    heads = window.locator("#quality ~ .tables thead tr:first-child th:visible").all_inner_texts()
    assert "jpeg_40" in heads
    assert "sr_x2" not in heads
    faded = "plots[0].panels.map((one) => one.group.style.opacity)"
    assert sorted(window.evaluate(faded)) == ["", "0.12", "0.12", "0.12"]
    bar.get_by_role("button", name="Show all").click()
    assert window.locator("#trials ~ .scroll tbody tr:visible").count() == 24
    assert window.evaluate(faded) == ["", "", "", ""]
