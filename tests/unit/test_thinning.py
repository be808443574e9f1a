"""Fewer steps for figures and traces.csv: values are left out, never changed."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from orchestrator.report import contents, drawing, figures, page, thinning
from orchestrator.report.as_csv import as_csv
from orchestrator.report.drawing import sizes_drawn
from orchestrator.report.figures import _seeds_note
from orchestrator.report.frame import read_frame
from orchestrator.report.thinning import for_figures, for_file, thinned
from orchestrator.store import open_store, read_store
from tests import damage
from tests.sweeps import plan_of
from tests.written_store import write_ended

GROUPS = tuple(f"feature/mean_square/group_{group}" for group in range(2))


def points(lengths: dict[str, int], every: dict[str, int]) -> pd.DataFrame:
    """Points of some trials, which train for so many steps, of metrics measured every so often."""
    rows = [
        (trial, metric, step, 1.0 + step / 7)
        for trial, length in lengths.items()
        for step in range(length + 1)
        for metric, cadence in every.items()
        if step % cadence == 0
    ]
    frame = pd.DataFrame(rows, columns=["trial", "metric", "step", "value"])
    return frame.astype({"trial": "category", "metric": "category"})


def steps_of(frame: pd.DataFrame, trial: str, metric: str) -> list[int]:
    return list(frame[(frame["trial"] == trial) & (frame["metric"] == metric)]["step"])


def test_a_short_curve_keeps_every_point() -> None:
    frame = points({"a": 150}, {"train/loss": 10, GROUPS[0]: 10})
    assert for_figures(frame, 1, []) is frame
    assert for_file(frame, [], 1.0) is frame


def test_steps_that_are_kept_are_kept_of_every_trial_with_the_first_and_the_last() -> None:
    frame = points({"a": 1000, "b": 1000}, {"train/loss": 1, GROUPS[0]: 10, GROUPS[1]: 10})
    kept = thinned(frame, lambda steps: 50, [])
    for metric, count in (("train/loss", 50), (GROUPS[0], 50), (GROUPS[1], 50)):
        steps = steps_of(kept, "a", metric)
        assert steps == steps_of(kept, "b", metric)
        assert (len(steps), steps[0], steps[-1]) == (count, 0, 1000)
        assert max(np.diff(steps)) <= 2 * min(np.diff(steps))
    assert steps_of(kept, "a", GROUPS[0]) == steps_of(kept, "a", GROUPS[1])
    assert kept.equals(frame.loc[kept.index])


def test_a_metric_that_is_measured_seldom_is_not_lost_beside_one_that_is_measured_often() -> None:
    frame = points({"a": 2001}, {"train/loss": 1, "val/Set5/psnr": 667})
    assert steps_of(thinned(frame, lambda steps: 10, []), "a", "val/Set5/psnr") == [
        0,
        667,
        1334,
        2001,
    ]


def test_the_last_finite_values_of_a_diverged_trial_are_kept() -> None:
    frame = points({"a": 1000, "b": 613}, {GROUPS[0]: 1, GROUPS[1]: 1})
    of_b = frame["trial"] == "b"
    frame.loc[of_b & (frame["step"] > 611) & (frame["metric"] == GROUPS[1]), "value"] = math.inf
    frame.loc[of_b & (frame["step"] > 612) & (frame["metric"] == GROUPS[0]), "value"] = math.nan
    kept = thinned(frame, lambda steps: 11, ["b"])
    for metric in GROUPS:  # both at both steps, so that their maximum is what it was
        assert steps_of(kept, "b", metric)[-2:] == [611, 612]
    assert len(steps_of(kept, "a", GROUPS[0])) == 11


def test_metrics_that_are_not_wanted_decide_on_the_steps_of_their_family_all_the_same() -> None:
    frame = points({"a": 1000, "b": 613}, {"train/loss": 3, "train/lr": 1, GROUPS[0]: 10})
    kept = thinned(frame, lambda steps: 50, ["b"])
    for wanted in (("train/loss",), ("train/loss", GROUPS[0]), ()):
        part = thinned(frame, lambda steps: 50, ["b"], wanted.__contains__)
        assert part.equals(kept[kept["metric"].isin(wanted)])
    far = frame.assign(step=frame["step"] * 10**12)  # numbers that no array is as long as
    assert thinned(far, lambda steps: 50, ["b"]).index.equals(kept.index)


def test_the_file_has_about_as_many_rows_as_it_may_have() -> None:
    frame = points({"a": 999, "b": 999, "c": 400}, {"train/loss": 1, GROUPS[0]: 4})
    assert 280 < len(for_file(frame, [], 300 / len(frame))) < 320


def test_a_figure_of_many_trials_has_fewer_steps_of_each() -> None:
    frame = points({"a": 3000}, {"train/loss": 1})
    assert len(for_figures(frame, 1, [])) == 1000
    assert len(for_figures(frame, 250, [])) == 400
    assert len(for_figures(frame, 4000, [])) == 100


def test_no_points_are_thinned_to_none() -> None:
    frame = points({}, {"train/loss": 1})
    assert for_figures(frame, 0, []).empty
    assert for_file(frame, ["a"], 0.5).empty


def test_a_column_at_a_time_gives_the_csv_that_the_library_writes() -> None:
    texts = ["a", 'say "x"', "a,b", "two\nlines", "\u00e9", ""]
    numbers = [0.1, 1e-5, math.inf, math.nan, -0.0, 1e22]
    frame = pd.DataFrame(
        {
            "text": texts,
            "repeated": pd.Categorical(["a,b", "c", "a,b", "c", "c", "c"]),
            "mixed": pd.Series([None, 1, 2.5, "x", True, math.nan], dtype=object),
            "mixed again": pd.Categorical(["none", 1.0, 1.0, "none", 2e-4, 1.0]),
            "number": numbers,
            "whole": pd.Series(range(6), dtype=np.int32),
            "flag": [True, False] * 3,
        }
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(
        ["" if value is None else value for value in row]
        for row in frame.itertuples(index=False, name=None)
    )
    assert as_csv(frame) == text.getvalue()
    assert as_csv(frame[:0]) == text.getvalue().splitlines(keepends=True)[0]


def test_a_figure_of_too_many_sizes_draws_some_with_the_first_and_the_last(tmp_path: Path) -> None:
    widths = [12 * i for i in range(1, 13)]
    axes = f"backbone: [swinir-tiny], norm: [i_ln], task: [sr_x2, sr_x4, jpeg_40], width: {widths}"
    frame = read_frame(plan_of(tmp_path, f"axes: {{{axes}}}"), read_store(str(tmp_path / "none")))
    sizes = frame.names("size")
    drawn = sizes_drawn(frame)
    assert (len(sizes), len(drawn), drawn[0], drawn[-1]) == (12, 2, sizes[0], sizes[-1])
    assert drawn == [size for size in sizes if size in drawn]
    assert "2 of 12 sizes are drawn." in _seeds_note(frame, "mean")


def test_the_page_says_that_points_were_left_out_unless_all_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "from_points", lambda frame: [])
    monkeypatch.setattr(figures, "from_numbers", lambda *_: [])
    plan, store = plan_of(tmp_path, damage.SWEEP), open_store(str(tmp_path / "runs"))
    write_ended(store, plan.trials[0])
    write_ended(store, plan.trials[1], outcome="diverged", until=20)
    report = contents.build(plan, read_frame(plan, store), datetime.now(UTC))
    whole = page.render(report)
    assert "points, at evenly" not in whole["index.html"]
    monkeypatch.setattr(thinning, "MOST_ROWS", 25)
    few, every = page.render(report), page.render(report, all_traces=True)
    assert every == whole
    rows, all_rows = (text["traces.csv"].splitlines() for text in (few, whole))
    assert 15 < len(rows) < len(all_rows) - 10
    assert set(rows) < set(all_rows)
    assert f"traces.csv has {len(rows) - 1} of {len(all_rows) - 1} points" in few["index.html"]
    others = [name for name in whole if name not in ("traces.csv", "index.html")]
    assert all(few[name] == whole[name] for name in others)


def test_many_panels_lie_within_their_figure_without_overlap() -> None:
    for lines_below in (0, 6):
        canvas, panels = drawing.panels(10, 4, widest=4.6, share="row", lines_below=lines_below)
        boxes = [[axes.get_position() for axes in line] for line in panels]
        height = canvas.get_size_inches()[1]
        below = 0.4 + lines_below * drawing.LINE_PT / 72
        for upper, lower in pairwise(boxes):
            assert (upper[0].y0 - lower[0].y1) * height > below
        assert all(a.x1 < b.x0 for line in boxes for a, b in pairwise(line))
        assert boxes[0][0].y1 < 1 - 0.35 / height
        assert boxes[-1][0].y0 * height > below
