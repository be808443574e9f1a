"""A report on several sweeps: the same tables over all, with the sweep as one more label."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from orchestrator.cli.results import _stores
from orchestrator.errors import UserError
from orchestrator.report.contents import build
from orchestrator.report.drops import Drop, drops
from orchestrator.report.frame import Frame, read_frame
from orchestrator.report.page import render
from orchestrator.report.several import One, joined, labels_of, place_of
from orchestrator.statistics.interval import Interval
from orchestrator.store import open_store
from tests.scored_store import COMMIT, IMAGES, Truth, drawn, scored, write_scored
from tests.sweeps import comparing, plan_of

SET = "embedded-test"
TRUTH = Truth({"layer_norm": 0.0, "i_ln": 0.2})
SEEDS = "0, 1, 2"


def written(
    folder: Path,
    name: str,
    store: str = "runs",
    gain: float = 0.0,
    commit: str = COMMIT,
    **axes: Any,
) -> One:
    """A sweep whose scores are `gain` above what the truth draws."""
    plan = plan_of(folder, comparing(**{"seed": SEEDS, **axes}), name)
    opened = open_store(str(folder / store))
    scores = drawn(plan, TRUTH, {SET: IMAGES})
    for trial in plan.trials:
        lifted = {
            image: scored(values["psnr"] + gain + 0.01 * trial.axes["seed"] * bool(gain))
            for image, values in scores[trial.id][SET].items()
        }
        if not any(opened.list(f"trials/{trial.id}")):
            write_scored(opened, trial, {SET: lifted}, commit=commit)
    return One(name, plan, read_frame(plan, opened))


def between(frame: Frame) -> dict[str, Drop]:
    found = (one for one in drops(frame) if one.kind == "sweep" and one.place.metric == "psnr")
    return {one.norm: one for one in found}


def reported(*sweeps: One) -> Mapping[str, str]:
    plan, frame = joined(sweeps)
    return render(build(plan, frame, datetime(2026, 1, 2, tzinfo=UTC), ()))


def test_two_dates_of_a_sweep_are_compared_by_seed_and_image(tmp_path: Path) -> None:
    then = written(tmp_path, "held", "then")
    now = replace(written(tmp_path, "held", "now", gain=0.5, commit="beef" * 10), label="now")
    _, frame = joined([then, now])
    for found in between(frame).values():
        assert isinstance(found.other_seeds, Interval)
        assert found.estimate == pytest.approx(0.51)
        assert found.against == "held"
        half = (found.other_seeds.high - found.other_seeds.low) / 2
        assert half == pytest.approx(4.302653 * np.std([0, 0.01, 0.02], ddof=1) / np.sqrt(3))


def test_every_table_has_the_sweep_as_a_label_and_its_commits_are_named(tmp_path: Path) -> None:
    then = written(tmp_path, "held", "then")
    now = replace(written(tmp_path, "held", "now", gain=0.5, commit="beef" * 10), label="now")
    files = reported(then, now)
    cells = list(csv.DictReader(io.StringIO(files["table.csv"])))
    assert {(row["norm"], row["sweep"], row["seeds"]) for row in cells} == {
        (norm, sweep, "3") for norm in ("layer_norm", "i_ln") for sweep in ("held", "now")
    }
    markdown = files["report.md"]
    assert markdown.startswith("# held, now\n")
    assert "## Between the sweeps" in markdown
    assert "different commits: held with c0ffeec0ffee; now with beefbeefbeef" in markdown
    assert "| norm | sweep | sr_x2, embedded-test, PSNR (dB) |" in markdown
    assert any(name.startswith("latex/sweeps-") for name in files)


def test_sweeps_that_trained_otherwise_say_why_they_cannot_be_compared(tmp_path: Path) -> None:
    short = written(tmp_path, "short")
    text = comparing(seed=SEEDS, training="steps: 50")
    plan = plan_of(tmp_path, text, "long")
    opened = open_store(str(tmp_path / "runs"))
    scores = drawn(plan, TRUTH, {SET: IMAGES})
    for trial in plan.trials:
        write_scored(opened, trial, scores[trial.id])
    _, frame = joined([short, One("long", plan, read_frame(plan, opened))])
    found = between(frame)["i_ln"]
    assert found.estimate is None
    assert "training.steps 50 for long, 300000 for short" in str(found.other_seeds)


def test_a_trial_that_both_share_is_there_for_each_and_a_missing_axis_is_filled_in(
    tmp_path: Path,
) -> None:
    one = written(tmp_path, "one")
    both = written(tmp_path, "both", lr="1.0e-4, 2.0e-4")  # 2.0e-4 is the default
    plan, frame = joined([one, both])
    assert len(plan.trials) == len({trial.id for trial in plan.trials}) == 6 + 12
    rates = frame.trials.groupby("sweep")["lr"].unique()
    assert list(rates["one"]) == [2e-4]
    assert sorted(rates["both"]) == [1e-4, 2e-4]
    found = [one for one in drops(frame) if (one.kind, one.place.metric) == ("sweep", "psnr")]
    said = {(one.place.labels["lr"], one.estimate, str(one.other_seeds)) for one in found}
    assert said == {
        (2e-4, 0.0, "Unknown(reason='the same trials')"),
        (1e-4, None, "Unknown(reason='not in one')"),
    }
    assert len(frame.images) == len(one.frame.images) + len(both.frame.images)
    assert not frame.images["lr"].isna().any()


def test_points_keep_their_values_and_get_labels(tmp_path: Path) -> None:
    sweeps = [written(tmp_path, "one"), written(tmp_path, "both", lr="1.0e-4, 2.0e-4")]
    _, frame = joined(sweeps)
    points = frame.points
    assert points["value"].tolist() == [
        value for one in sweeps for value in one.frame.points["value"]
    ]
    labels = (
        frame.labelled(points)[["trial", "sweep", "lr", "norm"]].drop_duplicates().astype(object)
    )
    of_trials = frame.trials[["trial", "sweep", "lr", "norm"]].astype(object)
    assert len(labels) == 18
    assert len(pd.merge(labels, of_trials)) == 18


def test_sweeps_of_one_name_are_told_apart_by_store_or_file(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, comparing(), "held")
    other = plan_of(tmp_path, comparing(), "other")
    assert labels_of([plan, other], ["runs", "runs"]) == ("held", "other")
    assert labels_of([plan, plan], ["old", "new"]) == ("held in old", "held in new")
    assert place_of(("held in old", "held in s3://new")) == "compared/held-in-old/held-in-s3-new"


@pytest.mark.parametrize(
    ("files", "stores", "said"),
    [
        (["a.yaml", "b.yaml"], ["x", "y", "z"], "given 3 times for 2 files"),
        (["a.yaml", "a.yaml"], ["x"], "the same file is given twice with one store"),
    ],
)
def test_files_and_stores_that_do_not_fit_are_refused(
    files: list[str], stores: list[str], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        _stores([Path(file) for file in files], stores)
    assert said in str(caught.value).lower()


def test_one_store_serves_all_files() -> None:
    assert _stores([Path("a"), Path("b")], ["x"]) == ["x", "x"]
