"""The paper's tables as data, and a sweep's numbers beside them, from stores of known truth."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from setuptools import Distribution

from orchestrator.plan import Plan, load_plan
from orchestrator.report import sections
from orchestrator.report.blocks import Cell, Section, Table, Text
from orchestrator.report.contents import Report, build
from orchestrator.report.frame import read_frame
from orchestrator.report.page import render
from orchestrator.report.paper.beside import Beside, besides
from orchestrator.report.paper.match import FAMILY_OF, NORM_OF, network
from orchestrator.report.paper.printed import FILE, TABLES, Printed, printed
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.scored_store import write_evaluation, write_scored
from trainers.catalog import METRICS
from trainers.data.datasets import DATASETS
from trainers.data.lookup import find_set

ROOT = Path(__file__).parents[2]
SWEEP = """# How far is this from the paper?
axes:
  backbone: [hat-tiny, swinir-tiny]
  norm: [layer_norm, i_ln]
  task: [sr_x4]
  seed: [0, 1, 2]
data: {evaluate: [Set5, Set14]}
training: {steps: 40, batch_size: 4, patch_size_px: 16}
"""
SETS = {"Set5": 5, "Set14": 14}
SEEDS = (-0.05, 0.01, 0.04)  # each seed's mean, from that of all
SR_X4 = "super-resolution \N{MULTIPLICATION SIGN}4"
TABLE_1 = "Table 1 of the paper: super-resolution"
TABLE_5 = f"Table 5 of the paper: norms, {SR_X4}"
TABLE_6 = f"Table 6 of the paper: rescaling and low precision, {SR_X4}"


def plan_in(folder: Path, text: str = SWEEP) -> Plan:
    """The plan of a sweep whose evaluation sets are found, whatever their names."""
    path = folder / "beside.yaml"
    path.write_text(text)
    return load_plan(path, lambda name: replace(find_set(known(name)), name=name))


def known(name: str) -> str:
    return name if name.startswith("embedded") else "embedded-test"


def images(name: str, psnr: float, ssim: float = 0.9) -> dict[str, dict[str, float]]:
    """Scores of single images, of different difficulty, that have these means."""
    offsets = np.linspace(-3, 3, SETS.get(name, 4))
    return {
        f"{i}.png": {"psnr": psnr + offset, "ssim": ssim + offset / 100}
        for i, offset in enumerate(offsets)
    }


def of_paper(**fields: Any) -> Printed:
    """The one number of the paper with these fields."""
    (found,) = (row for row in printed() if all(getattr(row, k) == v for k, v in fields.items()))
    return found


def write(store: Store, plan: Plan, apart: float = 0.0, **only: Any) -> None:
    """Write trials with i-LN's and LayerNorm's numbers of Table 1, moved by `apart` and a seed."""
    for trial in plan.trials:
        if any(trial.axes[name] != value for name, value in only.items()):
            continue
        norm = {"layer_norm": "layernorm", "i_ln": "iln"}[trial.axes["norm"]]
        scores = {}
        for name in SETS:
            psnr, ssim = (
                of_paper(table=1, backbone="HAT", norm=norm, level=4, set=name, metric=metric).value
                for metric in ("psnr", "ssim")
            )
            moved = apart + SEEDS[trial.axes["seed"]]
            scores[name] = images(name, psnr + moved, ssim + moved / 100)
        write_scored(store, trial, scores)


def report_of(plan: Plan, folder: Path) -> Report:
    frame = read_frame(plan, open_store(str(folder / "runs")))
    return build(plan, frame, datetime(2026, 1, 2, tzinfo=UTC))


def one(rows: tuple[Beside, ...], **fields: Any) -> Beside:
    (found,) = (row for row in rows if all(getattr(row.printed, k) == v for k, v in fields.items()))
    return found


def reason(row: Beside) -> str:
    assert isinstance(row.ours, Unknown)
    assert row.mean is row.margin is None
    return row.ours.reason


def section_of(report: Report) -> Section | None:
    return next((s for s in sections.sections(report) if s.slug == "paper"), None)


def tables_of(report: Report) -> dict[str, Table]:
    found = section_of(report)
    assert found is not None
    return {table.caption: table for table in found.blocks if isinstance(table, Table)}


def lines(table: Table, whose: str) -> list[list[Cell]]:
    """The lines of the paper's numbers, of ours, or of the differences."""
    at = next(i for i, column in enumerate(table.columns) if column.heads == ("",))
    return [list(row) for row in table.rows if row[at].text == whose]


def filled(
    folder: Path, text: str = SWEEP, fill: Callable[[Store, Plan], None] = write
) -> tuple[Plan, Report]:
    plan = plan_in(folder, text)
    fill(open_store(str(folder / "runs")), plan)
    return plan, report_of(plan, folder)


# --- the data


def test_the_paper_has_these_numbers() -> None:
    assert Counter(row.table for row in printed()) == {1: 80, 2: 32, 3: 48, 4: 16, 5: 90, 6: 21}
    for fields, value in (
        ({"table": 1, "row": 2, "set": "Set5", "metric": "psnr"}, "38.37"),
        ({"table": 1, "row": 8, "set": "Manga109", "metric": "ssim"}, "0.9188"),
        ({"table": 2, "row": 5, "set": "Kodak24"}, "32.864"),
        ({"table": 3, "row": 4, "set": "LIVE1", "metric": "ssim"}, "0.7993"),
        ({"table": 4, "row": 2, "set": "Rain100L", "metric": "psnr"}, "36.20"),
        ({"table": 5, "row": 7, "set": "Set14", "metric": "ssim"}, "0.008"),
        ({"table": 6, "row": 7, "set": "Urban100"}, "26.8292"),
        ({"table": 6, "row": 8, "set": "Manga109"}, "5.0736"),
    ):
        assert of_paper(**fields).text == value
    assert all(row.value == float(row.text) for row in printed())


def test_every_name_of_the_paper_is_known_here() -> None:
    assert {row.backbone for row in printed()} == set(FAMILY_OF)
    assert {row.norm for row in printed()} == set(NORM_OF)
    assert {row.table for row in printed()} == set(TABLES)
    assert {row.metric for row in printed()} <= set(METRICS.names)
    assert {row.set for row in printed()} <= set(DATASETS)
    assert Counter(row.precision for row in printed() if row.table == 6) == {
        "fp32": 9,
        "int8": 4,
        "int4": 4,
        "fp16": 4,
    }


def test_no_number_is_there_twice_and_the_source_is_named() -> None:
    keys = [(row.table, row.row, row.set, row.metric) for row in printed()]
    assert len(set(keys)) == len(keys)
    head = [line for line in FILE.read_text().splitlines() if line.startswith("#")]
    assert "arXiv:2504.06629 v1" in " ".join(head)


def test_an_installed_wheel_has_the_tables_and_the_templates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What setuptools would copy, without copying it."""
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files([str(ROOT / "pyproject.toml")])
    command: Any = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    command.manifest_files = {}  # or it would write an egg-info
    copied = {
        path
        for package in distribution.packages or []
        for path in command.find_data_files(package, command.get_package_dir(package))
    }
    report = ROOT / "orchestrator/report"
    needed = [path for kind in ("csv", "j2", "css", "js") for path in report.rglob(f"*.{kind}")]
    assert len(needed) > 5
    assert {path.relative_to(ROOT).as_posix() for path in needed} <= copied


# --- ours beside it


def test_equal_numbers_have_no_difference_and_an_interval_around_none(tmp_path: Path) -> None:
    _, report = filled(tmp_path)
    row = one(report.paper, table=1, row=6, set="Set5", metric="psnr")
    assert row.printed.value == 32.72
    assert row.mean == pytest.approx(32.72)
    assert isinstance(row.difference, Interval)
    assert row.difference.low < 0 < row.difference.high
    cells = lines(tables_of(report)[TABLE_1], "difference")
    assert cells[0][4].text in ("+0.00", "\N{MINUS SIGN}0.00")


@pytest.mark.parametrize("apart", [-8.0, 0.3])
def test_a_difference_is_ours_minus_the_papers_with_the_t_interval_of_the_seeds(
    tmp_path: Path, apart: float
) -> None:
    _, report = filled(tmp_path, fill=lambda store, plan: write(store, plan, apart))
    row = one(report.paper, table=1, row=5, set="Set14", metric="psnr")
    expected = stats.ttest_1samp([apart + seed for seed in SEEDS], 0).confidence_interval(0.95)
    assert isinstance(row.difference, Interval)
    assert row.margin == pytest.approx(apart)
    assert (row.difference.low, row.difference.high) == pytest.approx(tuple(expected))
    low, high = (f"{end:+.2f}".replace("-", "\N{MINUS SIGN}") for end in expected)
    table = tables_of(report)[TABLE_1]
    set14 = [column.heads for column in table.columns].index(("Set14", "PSNR (dB)"))
    assert lines(table, "paper")[4][set14].text == "28.79"
    assert lines(table, "difference")[0][set14].note == f"{low} to {high}"


def test_one_seed_gives_a_difference_without_an_interval_and_says_so(tmp_path: Path) -> None:
    _, report = filled(tmp_path, SWEEP.replace("[0, 1, 2]", "[2]"))
    row = one(report.paper, table=1, row=6, set="Set5", metric="psnr")
    assert row.margin == pytest.approx(0.04)
    assert isinstance(row.difference, Unknown)
    table = tables_of(report)[TABLE_1]
    notes = [cell.note for cell in lines(table, "difference")[0] if cell.note]
    assert notes == ["no interval: one seed"]
    assert any("one seed" in cell.note for cell in lines(table, "here")[0])


def test_a_missing_number_says_why(tmp_path: Path) -> None:
    _, report = filled(tmp_path, fill=lambda store, plan: write(store, plan, norm="i_ln"))
    rows = report.paper
    ours = {"set": "Set5", "metric": "psnr"}
    assert reason(one(rows, table=1, row=5, **ours)) == "seeds 0, 1, 2: pending"
    assert reason(one(rows, table=1, row=2, **ours)) == "task not in the sweep"
    assert reason(one(rows, table=1, row=8, **ours)) == "backbone not in the sweep"
    assert reason(one(rows, table=5, row=5, **ours)) == "norm not in the sweep"
    assert reason(one(rows, table=1, row=6, set="Urban100", metric="ssim")) == "not scored"
    assert reason(one(rows, table=6, row=5, set="Urban100")) == "not scored at int8"
    assert all(row.mean is not None or reason(row) for row in rows)


def test_diverged_seeds_are_left_out_and_named(tmp_path: Path) -> None:
    def fill(store: Store, plan: Plan) -> None:
        for trial in plan.trials:
            seed, norm = trial.axes["seed"], trial.axes["norm"]
            if seed == 2 or norm == "layer_norm":
                write_scored(store, trial, {}, step=7, outcome="diverged")
            else:
                write_scored(store, trial, {"Set5": images("Set5", 32.0 + seed)})

    _, report = filled(tmp_path, fill=fill)
    row = one(report.paper, table=1, row=6, set="Set5", metric="psnr")
    assert row.mean == pytest.approx(32.5)
    gone = one(report.paper, table=1, row=5, set="Set5", metric="psnr")
    assert reason(gone) == "seeds 0, 1, 2: diverged at step 7"
    assert one(report.paper, table=1, row=5, set="Urban100", metric="psnr").mean is None
    ours = lines(tables_of(report)[TABLE_1], "here")
    assert any("2 seeds; seed 2: diverged at step 7" in cell.note for cell in ours[1])
    assert any("seeds 0, 1, 2: diverged at step 7" in cell.note for cell in ours[0])


def test_scores_that_are_not_finite_are_a_sentence(tmp_path: Path) -> None:
    def fill(store: Store, plan: Plan) -> None:
        for trial in plan.trials:
            write_scored(store, trial, {"Set5": images("Set5", float("inf"))})

    _, report = filled(tmp_path, fill=fill)
    assert "inf" in reason(one(report.paper, table=1, row=6, set="Set5", metric="psnr"))
    assert "nan" not in render(report)["paper.csv"]


def test_low_precision_stands_beside_table_6_alone(tmp_path: Path) -> None:
    def fill(store: Store, plan: Plan) -> None:
        write(store, plan)
        for trial in plan.trials:
            scores = images("Urban100", 20 + SEEDS[trial.axes["seed"]])
            write_evaluation(store, trial, "Urban100", scores, precision="int4")
            higher = images("Urban100", 25.0)
            write_evaluation(store, trial, "Urban100", higher, precision="int4", per_channel=True)

    _, report = filled(tmp_path, fill=fill)
    row = one(report.paper, table=6, row=7, set="Urban100")
    assert row.mean == pytest.approx(20.0)
    assert row.margin == pytest.approx(20 - 26.8292)
    assert reason(one(report.paper, table=6, row=2, set="Urban100")) == "not scored"
    table = tables_of(report)[TABLE_6]
    assert "20.0000" in [cell.text for cell in lines(table, "here")[5]]


def test_of_two_sizes_the_larger_stands_beside_the_paper_and_is_named(tmp_path: Path) -> None:
    text = SWEEP.replace("  seed:", "  width: [12, 24]\n  seed:")

    def fill(store: Store, plan: Plan) -> None:
        write(store, plan, 5.0, width=12)
        write(store, plan, -1.0, width=24, norm="i_ln")

    _, report = filled(tmp_path, text, fill)
    row = one(report.paper, table=1, row=6, set="Set5", metric="psnr")
    assert row.margin == pytest.approx(-1.0)
    assert reason(one(report.paper, table=1, row=5, set="Set5", metric="psnr")) == (
        "seeds 0, 1, 2: pending"
    )
    line = lines(tables_of(report)[TABLE_1], "here")[1]
    assert line[1].text == "hat-tiny, width 24, depth 2"
    (first, *_) = tables_of(report)["Networks of this sweep"].rows
    assert [cell.text for cell in first[:3]] == ["HAT", SR_X4, "hat-tiny, width 24, depth 2"]
    assert [cell.text for cell in first[4:]] == ["40", "4", "0, 1, 2", "embedded-train"]


# --- which trials stand beside a row


def beside(folder: Path, text: str, **fields: Any) -> Any:
    found = network(plan_in(folder, text), next(r for r in printed() if matches(r, fields)))
    assert found is not None
    return found


def matches(row: Printed, fields: Mapping[str, Any]) -> bool:
    return all(getattr(row, name) == value for name, value in fields.items())


def test_the_wider_hat_of_table_6_is_one_wider_than_hat_where_there_is_one(tmp_path: Path) -> None:
    text = SWEEP.replace("  seed: [0, 1, 2]", "  width: [96, 180, 192]")
    assert beside(tmp_path, text, table=1, level=4).labels["width"] == 180
    assert beside(tmp_path, text, table=6).labels["width"] == 192
    narrow = text.replace(", 192", "")
    assert beside(tmp_path, narrow, table=6).labels["width"] == 180
    wide = text.replace("96, 180, ", "")
    assert beside(tmp_path, wide, table=1, level=4).labels["width"] == 192


def test_of_several_recipes_the_longest_counts_and_then_the_first(tmp_path: Path) -> None:
    text = SWEEP.replace("  seed: [0, 1, 2]", "  lr: [2.0e-4, 1.0e-4]\n  steps: [20, 40]")
    text = text.replace("{steps: 40, ", "{")
    found = beside(tmp_path, text, table=1, level=4)
    assert (found.labels["steps"], found.labels["lr"]) == (40, 2e-4)


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("iln", ["{name: i_ln, eps: 1.0e-3}", "i_ln"], "i_ln"),
        ("iln", ["{name: i_ln, eps: 1.0e-3}"], "i_ln[eps=0.001]"),
        ("iln", ["{name: i_ln, rescale: false}"], None),
        ("iln_norescale", ["i_ln", "{name: i_ln, rescale: false}"], "i_ln[rescale=False]"),
        ("batchnorm", ["batch_norm"], "batch_norm"),
        (
            "batchnorm",
            ["batch_norm", "{name: batch_norm, ema_buffers: untouched}"],
            "batch_norm[ema_buffers=untouched]",
        ),
        ("batchnorm", ["{name: batch_norm, eval_stats: batch}"], None),
        (
            "batchnorm_trainstats",
            ["batch_norm", "{name: batch_norm, eval_stats: batch}"],
            "batch_norm[eval_stats=batch]",
        ),
        ("layerscale", ["layer_norm"], None),
    ],
)
def test_a_norm_of_the_paper_means_one_of_the_sweep(
    tmp_path: Path, name: str, given: list[str], meant: str | None
) -> None:
    text = SWEEP.replace("[layer_norm, i_ln]", f"[{', '.join(given)}]")
    assert beside(tmp_path, text, table=5).norm(name) == meant


def test_tasks_are_those_of_the_paper(tmp_path: Path) -> None:
    tasks = "[sr_x4, {name: sr_x4, lr_mode: f64}, denoise_15, jpeg_40]"
    text = SWEEP.replace("[sr_x4]", tasks)
    labels = {
        (row.task, row.level): None if (found := network(plan, row)) is None else found.labels
        for plan in [plan_in(tmp_path, text)]
        for row in printed()
        if row.backbone == "HAT"
    }
    assert {key: labels[key] and labels[key]["task"] for key in labels} == {
        ("sr", 2): None,
        ("sr", 4): "sr_x4[lr_mode=f64]",
        ("dn", 15): "denoise_15",
        ("dn", 25): None,
        ("car", 10): None,
        ("car", 40): "jpeg_40",
        ("dr", None): None,
    }


def test_a_set_is_known_by_its_other_names(tmp_path: Path) -> None:
    def fill(store: Store, plan: Plan) -> None:
        for trial in plan.trials:
            psnr = 27 + SEEDS[trial.axes["seed"]]
            write_scored(store, trial, {"B100": images("B100", psnr)})

    _, report = filled(tmp_path, SWEEP.replace("Set5, Set14", "B100"), fill)
    assert one(report.paper, table=1, row=5, set="BSD100", metric="psnr").mean == pytest.approx(27)


# --- the section and its files


def test_tables_without_a_cell_of_the_sweep_are_left_out(tmp_path: Path) -> None:
    _, report = filled(tmp_path)
    assert list(tables_of(report)) == [
        "Networks of this sweep",
        TABLE_1,
        TABLE_5,
    ]


def test_without_a_cell_there_is_a_csv_of_reasons_and_no_section(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, SWEEP.replace("Set5, Set14", "embedded-test"))
    report = report_of(plan, tmp_path)
    assert section_of(report) is None
    rows = list(csv.DictReader(io.StringIO(render(report)["paper.csv"])))
    assert len(rows) == len(printed())
    assert all(row["missing"] and not row["ours"] for row in rows)


def test_without_a_backbone_of_the_paper_there_is_neither(tmp_path: Path) -> None:
    text = SWEEP.replace("[hat-tiny, swinir-tiny]", "[restormer-tiny]")
    plan = plan_in(tmp_path, text.replace("sr_x4", "denoise_25"))
    report = report_of(plan, tmp_path)
    assert besides(plan, report.frame) == report.paper == ()
    assert section_of(report) is None
    assert "paper.csv" not in render(report)


def test_a_sweep_that_has_not_begun_has_the_papers_numbers_and_pending(tmp_path: Path) -> None:
    report = report_of(plan_in(tmp_path), tmp_path)
    table = tables_of(report)[TABLE_1]
    assert not lines(table, "difference")
    assert len(lines(table, "paper")) == 8
    assert [cell.note for cell in lines(table, "paper")[0] if cell.note] == ["not in the sweep"]
    assert [cell.note for cell in lines(table, "here")[1] if cell.note] == [
        "seeds 0, 1, 2: pending"
    ]


def test_every_number_of_the_section_is_in_the_csv_and_none_is_marked(tmp_path: Path) -> None:
    _, report = filled(tmp_path, fill=lambda store, plan: write(store, plan, -2.0))
    files = render(report)
    rows = list(csv.DictReader(io.StringIO(files["paper.csv"])))
    numbers = {
        float(row[name]) for row in rows for name in ("paper", "ours", "difference") if row[name]
    }
    captions = [name for name in tables_of(report) if name.startswith("Table")]
    for caption in captions:
        for row in tables_of(report)[caption].rows:
            assert not any(cell.is_best for cell in row)
            shown = {cell.value for cell in row if isinstance(cell.value, float)}
            assert shown <= numbers
    for name in captions:
        assert f"### {name}" in files["report.md"]
    assert "latex/paper-table-1-of-the-paper-super-resolution.tex" in files
    section = section_of(report)
    assert section is not None
    lead = section.blocks[0]
    assert isinstance(lead, Text)
    assert "arXiv:2504.06629 v1" in str(lead.lines[0])
