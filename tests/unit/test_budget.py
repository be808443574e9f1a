"""`run --max-hours` and `--max-gpu-hours`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.plan import Plan, load_plan
from orchestrator.plan.fit import with_placement
from orchestrator.plan.left import left_as_json, left_in_words
from orchestrator.run.budget import Budget
from orchestrator.run.options import RunOptions
from orchestrator.run.runner import run_sweep
from tests.sweeps import write_sweep


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_sweep(tmp_path, norms="layer_norm, i_ln, none", steps=40))


def test_hours_are_those_since_the_run_began(clock: Clock) -> None:
    budget = Budget(2.0, None, clock)
    clock.now += 7_199
    budget.spend(8.0)
    assert budget.used_up == ""
    clock.now += 1
    budget.spend(0.0)
    assert budget.used_up == "2 h"


def test_gpu_hours_are_the_gpus_that_gangs_hold_times_the_time(clock: Clock) -> None:
    budget = Budget(None, 3.0, clock)
    for held, seconds in ((0.0, 3_600), (2.0, 1_800), (4.0, 1_740), (0.5, 100)):
        clock.now += seconds
        budget.spend(held)
    assert budget.gpu_hours == pytest.approx((2 * 1_800 + 4 * 1_740 + 0.5 * 100) / 3_600)
    assert budget.used_up == ""
    clock.now += 60
    budget.spend(4.0)
    assert budget.used_up == "3 GPU-hours"


def test_a_run_without_a_budget_never_uses_it_up(clock: Clock) -> None:
    budget = Budget(None, None, clock)
    clock.now += 1e9
    budget.spend(1e6)
    assert budget.used_up == ""


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("flag", ["max_hours", "max_gpu_hours"])
def test_a_budget_that_is_no_length_of_time_is_refused(flag: str, hours: float) -> None:
    options = replace(RunOptions("runs", ""), **{flag: hours})
    with pytest.raises(UserError, match=f"--{flag.replace('_', '-')} .*above 0"):
        Budget.of(options)


def test_gpu_hours_of_trials_on_the_cpu_are_refused(plan: Plan) -> None:
    ids = {trial.id for trial in plan.trials}
    budget = Budget(None, 1.0)
    with pytest.raises(UserError, match="no trial that is left takes a GPU"):
        budget.refuse_without_gpus(plan, ids)
    Budget(1.0, None).refuse_without_gpus(plan, ids)
    budget.refuse_without_gpus(plan, set())
    first = plan.trials[0]
    on_gpu = replace(first, spec=with_placement(first.spec, gpus_per_worker=0.5))
    mixed = replace(plan, trials=(on_gpu, *plan.trials[1:]))
    budget.refuse_without_gpus(mixed, ids)
    with pytest.raises(UserError):
        budget.refuse_without_gpus(mixed, ids - {first.id})
    waiting = with_placement(first.spec, gpus_per_worker="auto", device="auto")
    budget.refuse_without_gpus(replace(plan, trials=(replace(first, spec=waiting),)), ids)


def test_what_is_refused_has_not_taken_the_sweeps_name(tmp_path: Path) -> None:
    file = write_sweep(tmp_path)
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    options = RunOptions(str(tmp_path / "runs"), tracking, max_gpu_hours=1.0, quiet=True)
    with pytest.raises(UserError, match="no trial that is left takes a GPU"):
        run_sweep(load_plan(file), options)
    assert not list((tmp_path / "runs").glob("sweeps/*"))


def outcomes(plan: Plan, *states: tuple[str, int]) -> list[dict[str, object]]:
    return [
        {"trial": trial.id, "state": state, "step": step}
        for trial, (state, step) in zip(plan.trials, states, strict=True)
    ]


def test_what_is_left_is_said_with_the_time_predicted_for_it(plan: Plan) -> None:
    priced = replace(
        plan,
        trials=tuple(
            replace(trial, cost=replace(trial.cost, seconds=4_000.0)) for trial in plan.trials
        ),
    )
    trials = outcomes(priced, ("done", 40), ("interrupted", 30), ("pending", 0))
    said = left_in_words(priced, trials, "8 h", "normsweep run x.yaml --max-hours 8")
    assert said == (
        "The budget of 8 h is used up. 2 trials left, predicted to take 83 min one after the "
        "other: 1 interrupted, which go on from their checkpoints, 1 pending.\n"
        "To continue: normsweep run x.yaml --max-hours 8"
    )
    assert left_as_json(priced, trials) == {"trials_left": 2, "predicted_seconds_left": 5_000.0}


def test_a_budget_used_up_on_the_last_step_leaves_nothing(plan: Plan) -> None:
    trials = outcomes(plan, ("done", 40), ("diverged", 12), ("failed", 3))
    said = left_in_words(plan, trials, "1 GPU-hours", "again")
    assert said == "The budget of 1 GPU-hours is used up, and nothing is left to do."
