"""Reports on stores in every state, through load_plan, the folder store and write_report.

`page.txt` records what the page of a complete sweep says. `python -m tests.integration.test_report`
records it anew. Read the difference as a change to the page before you keep it.
"""

from __future__ import annotations

import csv
import html
import re
import tempfile
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

import orchestrator.tracking.mlflow  # noqa: F401 - sets MLflow's limits once, which stay
from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan, load_plan
from orchestrator.report.page import write_report
from orchestrator.store import open_store
from orchestrator.store.attempts import write_failure
from tests.damage import files_of, written
from tests.sweeps import plan_of
from tests.written_store import write_attempt, write_ended, write_sweep
from trainers.catalog import METRICS

SWEEP = """# Does quality <follow> & hold?
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, rms_norm, i_ln]
  task: [sr_x2, denoise_25]
  width: [12, 24]
  depth: [2]
  seed: [0, 1]
data: {evaluate: [embedded-test]}
training: {steps: 40, batch_size: 4, patch_size_px: 16}
"""
RECORDED = Path(__file__).with_name("page.txt")
UNSAID = {"svg", "style", "script"}
VOID = {"meta", "link", "br", "img", "input", "hr", "line", "rect", "circle", "path", "use"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects ids, links, and what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.fetched: list[str] = []
        self.linked: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        href = values.get("href") or values.get("xlink:href") or ""
        self.anchors += [href[1:]] if href.startswith("#") else []
        self.linked += [href] if tag == "a" and not href.startswith("#") else []
        self.fetched += [
            value
            for value in ("" if tag == "a" else href, values.get("src") or "")
            if value and not value.startswith("#")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def plan_in(folder: Path) -> Plan:
    return plan_of(folder, SWEEP, "follow")


def complete_in(store: Path, plan: Plan) -> Path:
    write_sweep(open_store(str(store)), plan)
    return Path(write_report(plan, str(store)).page)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_in(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def complete(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep in which every trial completed."""
    return complete_in(tmp_path_factory.mktemp("complete") / "runs", plan)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep of two norms, two learning rates and two seeds."""
    folder = tmp_path_factory.mktemp("rates")
    axes = SWEEP.replace("layer_norm, rms_norm, i_ln", "layer_norm, i_ln").replace(
        "[sr_x2, denoise_25]", "[sr_x2]"
    )
    (folder / "rates.yaml").write_text(axes.replace("  depth: [2]", "  lr: [1.0e-4, 2.0e-4]"))
    plan = load_plan(folder / "rates.yaml")
    write_sweep(open_store(str(folder / "runs")), plan)
    return Path(write_report(plan, str(folder / "runs")).page)


def test_learning_rates_are_told_apart_everywhere_and_n_counts_seeds(rates: Path) -> None:
    cells = [row for row in rows(rates.parent / "table.csv") if row["metric"] == "psnr"]
    assert [(row["size"], row["norm"], row["lr"], row["seeds"]) for row in cells] == [
        (size, norm, lr, "2")
        for size in ("w12 d2", "w24 d2")
        for norm in ("layer_norm", "i_ln")
        for lr in ("0.0001", "0.0002")
    ]
    assert len({row["mean"] for row in cells}) == len(cells)
    assert {(row["norm"], row["lr"]) for row in rows(rates.parent / "correlation.csv")} == {
        (norm, lr) for norm in ("layer_norm", "i_ln") for lr in ("0.0001", "0.0002")
    }
    assert {row["lr"] for row in rows(rates.parent / "traces.csv")} == {"0.0001", "0.0002"}
    page, markdown = rates.read_text(), (rates.parent / "report.md").read_text()
    assert "| norm | lr | sr_x2, embedded-test, PSNR (dB) |" in markdown
    assert re.search(r"\| i_ln \| 0\.0002 \| \*{0,2}[\d.]+\*{0,2} ± [\d.]+ \(n = 2\) \|", markdown)
    assert re.search(r"i_ln</th>\s*<td data-rank=.0\.0002.>0\.0002</td>\s*<td class=.number", page)
    for lr in ("0.0001", "0.0002"):
        assert f">sr_x2, lr {lr}, width 24, depth 2<" in page


def test_the_report_is_in_the_store_by_default(complete: Path) -> None:
    assert complete.parts[-4:] == ("sweeps", "follow", "report", "index.html")


class Said(HTMLParser):
    """The texts of a page, each after the tags that place it. Plots and styles are left out."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines = [""]
        self.is_left_out = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.is_left_out = self.is_left_out or tag in UNSAID
        if tag in (
            "section",
            "h2",
            "h3",
            "a",
            "p",
            "li",
            "caption",
            "th",
            "td",
            "dt",
            "dd",
            "figcaption",
            "summary",
        ):
            placed = "".join(
                f" {name}={value}"
                for name, value in attrs
                if name in ("id", "class", "href", "colspan")
            )
            self.lines.append(f"{tag}{placed}:")

    def handle_endtag(self, tag: str) -> None:
        self.is_left_out = self.is_left_out and tag not in UNSAID

    def handle_data(self, data: str) -> None:
        if not self.is_left_out and data.strip():
            self.lines[-1] += f" {' '.join(data.split())}"


def said_by(page: Path) -> str:
    said = "\n".join(Said(page.read_text()).lines)
    return re.sub(r"written \S+ \S+ UTC", "written", said) + "\n"


def test_the_page_says_what_it_said_before_it_was_made_of_blocks(complete: Path) -> None:
    """`page.txt` was recorded then. A change that is intended is recorded anew."""
    assert said_by(complete) == RECORDED.read_text()


def test_the_page_fetches_nothing(complete: Path) -> None:
    text = complete.read_text()
    assert Page(text).fetched == []
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(", text)


def test_links_beside_the_page_lead_to_files(complete: Path) -> None:
    linked = Page(complete.read_text()).linked
    assert {"report.md", "traces.csv", "tables.tex"} <= set(linked)
    assert all((complete.parent / name).exists() for name in linked)


def test_tags_are_balanced_and_ids_unique_and_found(complete: Path) -> None:
    page = Page(complete.read_text())
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.anchors) <= set(page.ids)


def test_every_cell_of_a_complete_sweep_has_a_value(complete: Path) -> None:
    table = rows(complete.parent / "table.csv")
    assert len(table) == 3 * 2 * 2 * len(METRICS.names)
    assert all(
        row["mean"] and row["sd"] and row["seeds"] == "2" and not row["missing"] for row in table
    )


def test_every_figure_is_in_the_page_and_a_file_of_its_own(complete: Path) -> None:
    files = sorted(path.stem for path in (complete.parent / "figures").glob("*.svg"))
    kinds = {name.split("-")[0] for name in files}
    assert kinds == {"trace", "size", "entropy", "loss", "psnr", "groups"}
    assert complete.read_text().count('<svg role="img"') == len(files)
    for name in files:
        ET.parse(complete.parent / "figures" / f"{name}.svg")


def test_a_norm_has_one_colour_everywhere(complete: Path) -> None:
    for figure in (complete.parent / "figures").glob("*.svg"):
        text = figure.read_text().lower()
        assert all(colour in text for colour in ("#d55e00", "#009e73", "#1f80c8")), figure.name


def test_the_question_is_text_and_not_markup(complete: Path) -> None:
    assert "Does quality &lt;follow&gt; &amp; hold?" in complete.read_text()
    assert "> Does quality <follow> & hold?" in (complete.parent / "report.md").read_text()


def test_two_sizes_give_growth_but_no_correlation(complete: Path) -> None:
    grown = rows(complete.parent / "growth.csv")
    assert len(grown) == 3 * 2 * 2
    assert all(float(line["growth"]) > 0 for line in grown)
    lines = rows(complete.parent / "correlation.csv")
    assert {line["measure"] for line in lines} == {"parameters", "width"}
    assert all(line["rho"] == "" and line["note"] == "n = 2: no correlation" for line in lines)
    assert complete.read_text().count("2 sizes with ended trials: no correlation of growth") == 1


def test_markdown_names_figures_that_exist(complete: Path) -> None:
    named = re.findall(r"\]\((.+?)\)", (complete.parent / "report.md").read_text())
    assert named
    assert all((complete.parent / name).is_file() for name in named)


def test_markdown_tables_have_as_many_cells_as_their_heads(complete: Path) -> None:
    blocks = re.findall(
        r"(?:^\|.*\|\n)+", (complete.parent / "report.md").read_text(), re.MULTILINE
    )
    assert len(blocks) >= 4
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def protocol_of(folder: Path, task: str, training: str = "") -> str:
    """The section on the protocol, in Markdown, in the report on a sweep that has not begun.

    The page must say the same.
    """
    path = folder / "asked.yaml"
    text = SWEEP.replace("[sr_x2, denoise_25]", f"[{task}]").replace(
        "patch_size_px: 16", f"patch_size_px: 16{training}"
    )
    path.write_text(text)
    page = Path(write_report(load_plan(path), str(folder / "runs")).page)
    said = (page.parent / "report.md").read_text().partition("## Protocol")[2]
    shown = html.unescape(page.read_text())
    for line in said.splitlines():
        for part in line.strip("|-# ").split(" | "):
            assert part in shown, part
    return said


def test_the_protocol_says_lr_mode_also_where_the_sweep_does_not(tmp_path: Path) -> None:
    said = protocol_of(tmp_path, "sr_x2, sr_x4, {name: sr_x3, lr_mode: f64}")
    assert "| LR images (lr_mode) | u8: sr_x2, sr_x4; f64: sr_x3[lr_mode=f64] |" in said
    assert (
        "LQ of sr_x2, sr_x4, also in training: "
        "lr_mode u8 (the default), MATLAB's bicubic, rounded to 8 bits" in said
    )
    assert (
        "LQ of sr_x3[lr_mode=f64], also in training: lr_mode f64, MATLAB's bicubic in float64"
        in said
    )
    assert "10 to 15 % of LR values differ between u8 and f64" in said
    assert "LRfp64" in said


def test_the_protocol_of_a_sweep_without_super_resolution_does_not_speak_of_lr(
    tmp_path: Path,
) -> None:
    said = protocol_of(tmp_path, "denoise_25")
    assert "Gaussian noise" in said
    assert "lr_mode" not in said
    assert "LRfp64" not in said


def test_the_protocol_says_how_trials_were_trained(tmp_path: Path) -> None:
    said = protocol_of(tmp_path, "sr_x2")
    for line in (
        "| Augmentation | flips and quarter turns |",
        "| Sampling | independent: each patch draws its image anew |",
        "| Learning rate | 0.0002, times 0.5 from 0.8333 of the steps |",
        "| Gradient clipping | none |",
        "| Precision | fp32 |",
    ):
        assert line in said
    chosen = (
        ", flips: false, rotations: false, sampling: epoch, lr_factor: 0.25, "
        "halve_lr_at: [0.5, 0.8], clip_grad_norm: 1.0"
    )
    said = protocol_of(tmp_path, "sr_x2", f"{chosen}, precision: bf16")
    for line in (
        "| Augmentation | none |",
        "| Sampling | epoch: every image is drawn once, in a new order, "
        "before any is drawn again |",
        "| Learning rate | 0.0002, times 0.25 from 0.5 and 0.8 of the steps |",
        "| Gradient clipping | 2-norm of all gradients at most 1 |",
        "| Precision | bf16 |",
    ):
        assert line in said


def test_every_state_is_named(plan: Plan, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs"))
    write_ended(store, plan.trials[0])
    write_ended(store, plan.trials[1], outcome="diverged", until=20)
    write_attempt(store, plan.trials[2], 20)
    attempt = write_attempt(store, plan.trials[3], 20)
    write_failure(
        store, plan.trials[3].id, attempt, "data", "rocket.jpg is <truncated>", final=True
    )
    page = Path(write_report(plan, str(tmp_path / "runs"), None, tmp_path / "out").page)
    assert page == tmp_path / "out" / "index.html"
    text = page.read_text()
    assert "diverged at step 20" in text
    assert "step 20 of 40" in text
    assert "pending" in text
    assert "failed" in text
    assert "rocket.jpg is &lt;truncated&gt;" in text
    assert "2 of 24</b> trials ended" in text


def test_a_store_without_trials_still_has_a_report(plan: Plan, tmp_path: Path) -> None:
    page = Path(write_report(plan, str(tmp_path / "runs")).page)
    assert "<b>0 of 24</b> trials ended" in page.read_text()
    assert all(row["missing"] == "2 pending" for row in rows(page.parent / "table.csv"))


def test_writing_again_replaces_the_report_and_leaves_other_files(
    plan: Plan, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    write_report(plan, str(tmp_path / "runs"), None, out)
    write_ended(open_store(str(tmp_path / "runs")), plan.trials[0])
    page = Path(write_report(plan, str(tmp_path / "runs"), None, out).page)
    assert "<b>1 of 24</b> trials ended" in page.read_text()
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in out.rglob(".*")] == []


def test_a_tracking_server_that_does_not_answer_is_reported_and_the_page_is_there(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    write_ended(open_store(str(tmp_path / "runs")), plan.trials[0])
    page = Path(write_report(plan, str(tmp_path / "runs"), "http://127.0.0.1:9", None).page)
    assert page.is_file()
    assert "normsweep sync" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(EnvironmentProblem, match=r"out.*--out"):
        write_report(plan, str(tmp_path / "runs"), None, tmp_path / "out")


def edited_after(folder: Path, before: str, after: str) -> Path:
    """The page of a report on a sweep whose file was edited after it had been trained."""
    path = folder / "edited.yaml"
    path.write_text(SWEEP + before)
    write_sweep(open_store(str(folder / "runs")), load_plan(path))
    path.write_text(SWEEP + after)
    return Path(write_report(load_plan(path), str(folder / "runs")).page)


@pytest.mark.parametrize(
    ("before", "after", "row", "sentence"),
    [
        (
            "observe: {probe_patches: 8}\n",
            "observe: {probe_patches: 16}\n",
            "| Probe batch | 8 patches |",
            "Probe batch: the sweep file now says 16 patches; trials recorded 8 patches",
        ),
        (
            "observe: {probe_every: 10}\n",
            "observe: {probe_every: 20}\n",
            "| Features recorded | every 10 steps |",
            "Features recorded: the sweep file now says every 20 steps; "
            "trials recorded every 10 steps",
        ),
        (
            "resources: {workers: 2}\n",
            "resources: {workers: 1}\n",
            "| Workers | 2 |",
            "Workers: the sweep file now says 1; trials recorded 2",
        ),
        (
            "",
            "observe: {evaluate_every: 7}\n",
            "| Scores recorded | every 5000 steps |",
            "Scores recorded: the sweep file now says every 7 steps; "
            "trials recorded every 5000 steps",
        ),
    ],
)
def test_the_report_states_what_was_recorded_and_where_the_sweep_file_differs(
    before: str, after: str, row: str, sentence: str, tmp_path: Path
) -> None:
    page = edited_after(tmp_path, before, after)
    said = (page.parent / "report.md").read_text()
    assert row in said
    assert sentence in said
    assert sentence in html.unescape(page.read_text())


def test_scores_of_a_set_that_the_sweep_file_no_longer_names_are_still_reported(
    tmp_path: Path,
) -> None:
    path = tmp_path / "edited.yaml"
    path.write_text(SWEEP)
    write_sweep(open_store(str(tmp_path / "runs")), load_plan(path))
    path.write_text(SWEEP.replace("evaluate: [embedded-test]", "evaluate: []"))
    page = Path(write_report(load_plan(path), str(tmp_path / "runs")).page)
    assert {row["dataset"] for row in rows(page.parent / "table.csv")} == {"embedded-test"}
    assert (
        "Evaluation sets: the sweep file now says none; trials recorded embedded-test"
        in page.read_text()
    )


def test_a_file_that_was_not_edited_is_not_mentioned(complete: Path) -> None:
    assert "sweep file now says" not in complete.read_text()


def test_a_damaged_trial_is_named_and_its_scores_are_missing(tmp_path: Path) -> None:
    plan, store = written(tmp_path)
    path = files_of(store, "journal")[0]
    path.write_bytes(path.read_bytes()[:-20])
    page = Path(write_report(plan, str(store), None, tmp_path / "out").page)
    for text in (page.read_text(), (page.parent / "report.md").read_text()):
        assert path.relative_to(store).as_posix() in text
    damaged = [row for row in rows(page.parent / "trials.csv") if row["state"] == "damaged"]
    assert [row["trial"] for row in damaged] == [path.relative_to(store).parts[1]]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        RECORDED.write_text(said_by(complete_in(Path(folder, "runs"), plan_in(Path(folder)))))
