"""What the page and its files say about growth and size."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import matplotlib
import pytest

from orchestrator.plan import Plan
from orchestrator.report.blocks import Block, Figure, Table, Text
from orchestrator.report.contents import Report
from orchestrator.report.drawing import RC
from orchestrator.report.frame import read_frame
from orchestrator.report.growth_tables import (
    because,
    by_trial,
    ends,
    factor,
    growth_csv,
    points,
    power_of_10,
    trend_csv,
)
from orchestrator.report.growths import growths, trends
from orchestrator.report.sections import features, short, size
from orchestrator.report.size_plot import drawn
from orchestrator.report.styles import norm_styles
from orchestrator.statistics.growth import Trace, growth
from orchestrator.store import open_store
from tests.unit.test_growths import WIDTHS, as_usual, planned, with_size
from tests.written_growth import power, write_curve, write_curves


def reported(plan: Plan, folder: Path) -> Report:
    """A report whose figures are not drawn, but for their kinds."""
    frame = read_frame(plan, open_store(str(folder / "runs")))
    grown = growths(frame)
    figures = [Figure(f"{kind}-x", kind, "", "<svg/>") for kind in ("trace", "size")]
    return Report(
        plan,
        frame,
        families=(),
        comparisons=(),
        spreads=(),
        growths=grown,
        trends=trends(frame, grown),
        drawing=lambda: figures,
        written=datetime.now(UTC),
        paper=(),
    )


def table_of(blocks: tuple[Block, ...]) -> Table:
    (table,) = (block for block in blocks if isinstance(block, Table))
    return table


def said_in(blocks: tuple[Block, ...]) -> str:
    texts = [block for block in blocks if isinstance(block, Text)]
    return "\n".join(str(word) for text in texts for line in text.lines for word in line)


def written(folder: Path, widths: str = "12", seeds: str = "0, 1, 2") -> Report:
    plan = planned(folder, widths, seeds)
    write_curves(open_store(str(folder / "runs")), plan, as_usual)
    return reported(plan, folder)


def test_the_table_gives_growth_slope_and_verdict_of_each_norm(tmp_path: Path) -> None:
    rows = table_of(features.blocks(written(tmp_path))).rows
    assert [[cell.value for cell in row][:2] for row in rows] == [
        ["sr_x2", "layer_norm"],
        ["sr_x2", "i_ln"],
    ]
    seeds, first, last, grown, steepness, verdict = rows[0][3:]
    assert seeds.value == 3
    assert (first.value, first.text) == (pytest.approx(3.0), "3")
    assert last.value == pytest.approx(3.0 * 200 ** ((0.98 + 1.01 + 1.03) / 3))
    assert grown.value == pytest.approx(200 ** ((0.98 + 1.01 + 1.03) / 3))
    assert grown.spread.startswith("[")
    assert (steepness.text, verdict.text) == ("1.007", "growing")
    assert verdict.note == "above the margin of 0.5"


def test_norms_of_one_size_are_next_to_each_other(tmp_path: Path) -> None:
    rows = table_of(features.blocks(written(tmp_path, widths="12, 24"))).rows
    assert [(row[2].value, row[1].value) for row in rows] == [
        (size, norm) for size in ("w12 d1", "w24 d1") for norm in ("layer_norm", "i_ln")
    ]


def test_one_seed_has_a_growth_without_an_interval_and_the_reason(tmp_path: Path) -> None:
    row = table_of(features.blocks(written(tmp_path, seeds="0"))).rows[0]
    assert row[6].value == pytest.approx(200**0.98)
    assert row[6].spread == ""
    assert (row[8].text, row[8].note) == (
        "undecided",
        "one seed: no spread over seeds to judge from",
    )


def test_without_traces_there_are_no_sections_and_no_sentence(tmp_path: Path) -> None:
    report = replace(written(tmp_path), drawing=list)
    assert (features.blocks(report), size.blocks(report), short.blocks(report)) == ((), (), ())


def test_two_sizes_are_one_sentence_and_no_table(tmp_path: Path) -> None:
    blocks = size.blocks(written(tmp_path, widths="12, 24"))
    assert not any(isinstance(block, Table) for block in blocks)
    assert said_in(blocks).count("2 sizes with ended trials: no correlation") == 1


def test_one_size_is_a_sentence(tmp_path: Path) -> None:
    assert "one size" in said_in(size.blocks(written(tmp_path)))


def test_sizes_without_an_ended_trial_are_a_sentence(tmp_path: Path) -> None:
    report = reported(planned(tmp_path, widths=WIDTHS), tmp_path)
    assert "No trial with feature traces has ended" in said_in(size.blocks(report))


def test_a_trend_is_a_row_with_its_exponent_and_verdict(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths=WIDTHS)
    store = open_store(str(tmp_path / "runs"))
    for trial in plan.trials[:-1]:
        write_curve(store, trial, with_size(1.5)(trial))
    rows = table_of(size.blocks(reported(plan, tmp_path))).rows
    assert [(row[1].value, row[2].value) for row in rows] == [
        (norm, measure) for norm in ("layer_norm", "i_ln") for measure in ("parameters", "width")
    ]
    _, low, high, rank, p, exponent, verdict = rows[1][2:]
    assert (low.value, high.value) == (12, 48)
    assert (rank.value, p.text) == (pytest.approx(1.0), "0.083")
    assert exponent.value == pytest.approx(1.5, abs=0.1)
    assert (verdict.text, verdict.note) == ("rises", "")
    assert rows[3][-1].note == "1 trial left out"


def test_a_trend_with_diverged_trials_has_no_exponent_and_says_why(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths=WIDTHS)
    store = open_store(str(tmp_path / "runs"))
    for trial in plan.trials:
        gone = trial.axes["width"] == 48
        write_curve(
            store,
            trial,
            with_size(1.5)(trial),
            outcome="diverged" if gone else "completed",
            until=50 if gone else None,
        )
    row = table_of(size.blocks(reported(plan, tmp_path))).rows[0]
    assert row[-2].value is None
    assert "3 of 12 trials have no finite growth" in row[-1].note


def test_in_short_every_norm_has_its_verdict_and_growth(tmp_path: Path) -> None:
    assert said_in(short.blocks(written(tmp_path, widths="12, 24"))) == (
        "sr_x2: growth of the features since step 0: "
        "layer_norm growing at both sizes (\N{MULTIPLICATION SIGN} 207); "
        "i_ln bounded at both sizes (\N{MULTIPLICATION SIGN} 1.04)."
    )


def test_verdicts_that_differ_between_sizes_are_counted(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths="12, 24, 36")
    write_curves(
        open_store(str(tmp_path / "runs")),
        plan,
        lambda trial: as_usual(trial) if trial.axes["width"] < 36 else power(0.5),
    )
    said = said_in(short.blocks(reported(plan, tmp_path)))
    times = "\N{MULTIPLICATION SIGN}"
    expected = f"layer_norm growing at 2 of 3 sizes, undecided at 1 ({times} 14.1 to {times} 207)"
    assert expected in said


def test_files_have_the_numbers_of_the_page(tmp_path: Path) -> None:
    report = written(tmp_path, widths="12, 24, 36")
    line = growth_csv(report.frame, report.growths).iloc[0]
    assert line["growth"] == pytest.approx(factor(report.growths[0].growth).value)
    assert (line["width"], line["seeds"], line["verdict"]) == (12, 3, "growing")
    assert len(line["trials"].split()) == 3
    trend = trend_csv(report.frame, report.trends).iloc[1]
    assert (trend["measure"], trend["smallest"], trend["largest"], trend["n"]) == (
        "width",
        12,
        36,
        3,
    )
    trials = by_trial(report.frame, report.growths)
    assert trials["slope"].iloc[0] == pytest.approx(0.98)
    assert trials["growth"].iloc[0] == pytest.approx(200**0.98)


def test_what_is_not_known_is_empty_in_files_and_not_nan(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths="12, 24")
    write_curve(open_store(str(tmp_path / "runs")), plan.trials[0], power(1.0))
    report = reported(plan, tmp_path)
    for frame in (
        growth_csv(report.frame, report.growths),
        trend_csv(report.frame, report.trends),
        by_trial(report.frame, report.growths),
    ):
        values = [value for row in frame.itertuples(index=False) for value in row]
        assert None in values
        assert not any(isinstance(value, float) and math.isnan(value) for value in values)


def test_the_reason_beside_a_verdict_keeps_what_was_left_out() -> None:
    steps = tuple(range(0, 101, 10))
    traces = [
        Trace(seed, steps, (tuple(3.0 * max(step, 1) ** b for step in steps),))
        for seed, b in enumerate((1.0, 1.02))
    ]
    found = growth([*traces, Trace(2, (), ((),), missing="pending")], 100)
    assert because(found) == "above the margin of 0.5; left out: seed 2 (pending)"


def test_a_power_beyond_float64_is_infinite() -> None:
    assert (power_of_10(400.0), power_of_10(-400.0), power_of_10(math.inf)) == (
        math.inf,
        0.0,
        math.inf,
    )


def test_a_trend_without_trials_has_no_ends(tmp_path: Path) -> None:
    report = reported(planned(tmp_path, widths=WIDTHS), tmp_path)
    assert ends(report.frame, report.trends[0]) is None


def test_the_plot_of_sizes_shows_infinite_growth_and_the_verdict(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths=WIDTHS)
    store = open_store(str(tmp_path / "runs"))
    for trial in plan.trials:
        gone = trial.axes["width"] == 48 and trial.axes["norm"] == "layer_norm"
        outcome, until = ("diverged", 50) if gone else ("completed", None)
        write_curve(store, trial, with_size(1.5)(trial), outcome=outcome, until=until)
    report = reported(plan, tmp_path)
    with matplotlib.rc_context(RC):
        figure = drawn(
            report.frame,
            norm_styles(report.frame.names("norm")),
            "t",
            points(report.frame, report.growths),
            report.trends,
        )
    assert "ranked highest" in figure.caption
    assert "n = 4; undecided<" in figure.svg
    assert "n = 4; rises<" in figure.svg
