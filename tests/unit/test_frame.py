"""The frame of a sweep: a row for each trial and for each point of its journal."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.plan.axes import AXES, axes_named
from orchestrator.report.frame import Frame, in_words, read_frame, size_label
from orchestrator.store import open_store
from tests import damage
from tests.sweeps import plan_of
from tests.written_store import write_attempt, write_ended

SWEEP = damage.SWEEP.replace("depth: [1]", "depth: [2]")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, SWEEP)


def read(plan: Plan, store: Path) -> Frame:
    return read_frame(plan, open_store(str(store)))


def test_trials_are_in_file_order_with_their_axes(plan: Plan, tmp_path: Path) -> None:
    frame = read(plan, tmp_path / "runs")
    assert list(frame.trials["trial"]) == [trial.id for trial in plan.trials]
    assert frame.names("norm") == ["layer_norm", "i_ln"]
    assert frame.names("size") == ["w12 d2", "w24 d2"]


def test_every_axis_of_the_plan_is_a_column_of_trials_and_a_label_of_points(tmp_path: Path) -> None:
    rates = "  lr: [1.0e-4, 2.0e-4]\n  clip_grad_norm: [null, 1.0]"
    plan = plan_of(tmp_path, SWEEP.replace("  depth: [2]", rates))
    write_ended(open_store(str(tmp_path / "runs")), plan.trials[3])
    frame = read(plan, tmp_path / "runs")
    assert frame.names("lr") == [1e-4, 2e-4]
    assert frame.names("clip_grad_norm") == ["none", 1.0]
    labelled = frame.labelled(frame.points)
    assert {(row.lr, row.clip_grad_norm) for row in labelled.itertuples()} == {(2e-4, 1.0)}
    assert (frame.rows_by, frame.repeats) == (["norm", "lr", "clip_grad_norm"], 1)


def test_no_axis_has_the_name_of_another_column(plan: Plan, tmp_path: Path) -> None:
    """`steps` is an axis and a fact, and they are the same."""
    frame = read(plan, tmp_path / "runs")
    columns = {*frame.trials.columns, *frame.points.columns} - {axis.name for axis in frame.axes}
    assert columns & set(AXES) == {"steps"}


def test_an_empty_store_makes_every_trial_pending(plan: Plan, tmp_path: Path) -> None:
    frame = read(plan, tmp_path / "runs")
    assert frame.states() == {"pending": 4}
    assert frame.points.empty


def test_each_point_of_the_journal_is_one_row(plan: Plan, tmp_path: Path) -> None:
    write_ended(open_store(str(tmp_path / "runs")), plan.trials[0])
    frame = read(plan, tmp_path / "runs")
    assert not frame.points.duplicated(["trial", "metric", "step"]).any()
    assert list(frame.metric("val/embedded-test/psnr")["step"]) == [20, 40]
    assert set(frame.labelled(frame.points)["norm"]) == {"layer_norm"}


def test_of_two_attempts_the_first_to_record_a_point_counts(plan: Plan, tmp_path: Path) -> None:
    trial = plan.trials[0]
    write_attempt(open_store(str(tmp_path / "runs")), trial, 20)
    write_ended(open_store(str(tmp_path / "runs")), trial)
    loss = read(plan, tmp_path / "runs").metric("train/loss")
    assert list(loss["step"]) == list(range(5, 41, 5))
    assert list(loss["attempt"]) == [1] * 4 + [2] * 4


def test_what_is_not_finite_is_read_back(plan: Plan, tmp_path: Path) -> None:
    write_ended(open_store(str(tmp_path / "runs")), plan.trials[0], outcome="diverged", until=20)
    frame = read(plan, tmp_path / "runs")
    assert frame.states() == {"diverged": 1, "pending": 3}
    last = frame.points[frame.points["step"] == 20].set_index("metric")["value"]
    assert last["feature/mean_square/group_0"] == math.inf
    assert math.isnan(last["feature/max_abs/group_0"])


def test_the_attempts_machines_are_kept(plan: Plan, tmp_path: Path) -> None:
    write_ended(open_store(str(tmp_path / "runs")), plan.trials[0])
    (attempt,) = read(plan, tmp_path / "runs").attempts
    assert attempt["versions"]["torch"] == "2.13.0"


@pytest.mark.parametrize(
    ("width", "depth", "label"),
    [(24, 2, "w24 d2"), (None, 2, "d2"), (24, None, "w24"), (None, None, "as preset")],
)
def test_a_size_is_named_by_what_is_known_of_it(
    width: int | None, depth: int | None, label: str
) -> None:
    assert size_label(axes_named(()), {"width": width, "depth": depth}) == label


def test_a_trial_under_way_says_how_far_it_is() -> None:
    assert in_words({"state": "running", "step": 40.0, "steps": 100}) == "running, step 40 of 100"
    assert in_words({"state": "running", "step": math.nan, "steps": 100}) == "running"
