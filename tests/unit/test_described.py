"""What a tracker shows of a trial: params, the largest group, the columns of a table."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.store.journals import Point
from orchestrator.tracking.described import columns_of, params_of, values_of
from orchestrator.tracking.views import runs_link, saved_view
from tests.sweeps import comparing, plan_of

LARGEST, LOG = "feature/mean_square/max", "feature/mean_square/log10_max"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, comparing(training="steps: 40, lr: 1.0e-3", width="12, 24"))


def leaves(value: object) -> int:
    """How many fields a spec has; a list is one."""
    return sum(map(leaves, value.values())) if isinstance(value, dict) else 1


def test_every_field_of_the_spec_is_a_param(plan: Plan) -> None:
    trial = plan.trials[0]
    params = params_of(trial, trial.spec)
    fields = json.loads(trial.spec.to_json())
    del fields["version"]
    # Beside the fields: labels of backbone, norm, task, width and depth, the count of parameters,
    # and the accumulation that follows from the micro-batch.
    assert len(params) == leaves(fields) + 7
    assert params["norm"] == "layer_norm"
    assert params["norm.eps"] == "1e-05"
    assert params["width"] == params["backbone.embed_dim"] == "12"
    assert (params["steps"], params["lr"], params["seed"]) == ("40", "0.001", "0")
    assert (params["flips"], params["initial"]) == ("true", "none")
    assert params["halve_lr_at"] == f"[{5 / 6}]"
    assert params["observe.probes"] == "features"
    assert params["data.train"] == trial.spec.data.train
    assert params["placement.micro_batch"] == str(trial.spec.micro_batch)


def at(step: int, seq: int, *groups: float) -> list[Point]:
    names = [f"feature/mean_square/group_{number}" for number in range(len(groups))]
    return [
        Point(name, step, value, 1.5 + step, 1, seq)
        for name, value in zip(names, groups, strict=True)
    ]


def largest(*groups: float) -> dict[str, float]:
    values = values_of(at(10, 0, *groups))
    assert {(one.step, one.time_ms) for one in values} == {(10, 11_500)}
    return {one.metric: one.value for one in values if one.metric in (LARGEST, LOG)}


def test_the_largest_group_is_beside_the_groups() -> None:
    assert largest(2.0, 1e3, 5.0) == {LARGEST: 1e3, LOG: pytest.approx(3.0)}
    assert largest(1e-3) == {LARGEST: 1e-3, LOG: pytest.approx(-3.0)}
    assert largest(1.0, math.inf) == {LARGEST: math.inf, LOG: math.inf}
    assert largest(0.0, 0.0) == {LARGEST: 0.0}, "the logarithm of nothing is no number"


@pytest.mark.parametrize("groups", [(math.nan, 1.0), (1.0, math.nan), (math.inf, math.nan)])
def test_the_largest_of_what_is_not_a_number_is_none(groups: tuple[float, ...]) -> None:
    assert all(map(math.isnan, largest(*groups).values()))


def test_each_line_of_the_journal_has_its_own_largest_and_other_lines_have_none() -> None:
    loss = Point("train/loss", 20, 0.5, 2.0, 1, 1)
    values = values_of([*at(10, 0, 1.0, 2.0), loss, *at(20, 2, 4.0, 3.0)])
    assert [(v.step, v.value) for v in values if v.metric == LARGEST] == [(10, 2.0), (20, 4.0)]
    assert len(values) == 9


def test_a_table_begins_with_the_axes_that_vary_and_the_scores(plan: Plan) -> None:
    params, metrics = columns_of(plan)
    assert params == ["norm", "width"]
    assert metrics == ["val/embedded-test/psnr", LARGEST, "train/loss"]
    assert columns_of(replace(plan, trials=plan.trials[:1]))[0] == ["norm"]


def test_a_saved_view_fits_a_tag_whatever_the_metrics_are_called() -> None:
    metrics = [f"{number:03d}" + "x" * 247 for number in range(100)]
    view = saved_view("n" * 64, ["norm"], metrics, "normsweep.trial", 1_764_000_000_000)
    assert len(view) < 20_000
    state = json.loads(json.loads(view)["state"])
    assert len(state["compareRunCharts"]) == 10


def test_a_link_lands_on_the_runs_with_the_view_if_there_is_one() -> None:
    page = "http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning"
    assert runs_link("http://127.0.0.1:5000", "3") == f"{page}&viewStateShareKey=normsweep"
    assert runs_link("http://127.0.0.1:5000", "3", has_view=False) == page
