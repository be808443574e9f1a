"""Where the times of a simulation are from, and orders that are simulated before a run."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.plan import Plan, load_plan
from orchestrator.plan.cost import OVERHEAD_S, cost_of
from orchestrator.plan.fit import launch_order, with_placement
from orchestrator.plan.order import bound_s, order_on
from orchestrator.plan.simulate import Cluster, replayed, simulate
from orchestrator.report.gantt import check_kind, draw_gantt
from orchestrator.store import open_store
from orchestrator.store.records import sealed
from orchestrator.store.results import result_key, stated_result
from orchestrator.trials.simulated import (
    Measured,
    as_json,
    as_text,
    measured_in,
    simulated,
    times_of,
)
from tests.planned import plan_in_process
from tests.sweeps import write_sweep
from tests.written_store import write_ended


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_sweep(tmp_path, norms="layer_norm, i_ln", tasks="sr_x2, denoise_25"))


def test_a_trial_takes_what_it_took_then_what_one_like_it_took_then_what_is_predicted(
    plan: Plan,
) -> None:
    a = plan.trials[0]
    steps = a.spec.training.steps
    found = times_of(plan.trials, [Measured(a.id, a.spec, OVERHEAD_S + 3.0 * steps, steps)])
    like = next(t for t in plan.trials[1:] if t.spec.task == a.spec.task)
    others = [t for t in plan.trials if t.spec.task != a.spec.task]
    assert found.seconds[a.id] == OVERHEAD_S + 3.0 * steps
    assert found.seconds[like.id] == pytest.approx(OVERHEAD_S + 3.0 * steps)
    factor = 3.0 * steps / (cost_of(a.spec).seconds - OVERHEAD_S)
    for trial in others:
        predicted = OVERHEAD_S + (trial.seconds - OVERHEAD_S) * factor
        assert found.seconds[trial.id] == pytest.approx(predicted)
    assert (found.own, found.alike, found.scaled) == (1, 1, 2)
    assert found.factor == pytest.approx(factor)
    assert "1 measured in this store; 1 as trials like them" in str(found)


def test_without_measurements_times_are_predictions(plan: Plan) -> None:
    found = times_of(plan.trials, [])
    assert found.seconds == {trial.id: trial.seconds for trial in plan.trials}
    assert str(found).startswith("Times: 4 predicted, good to a factor of two")


def test_what_is_measured_on_a_cpu_says_nothing_of_a_gpu(plan: Plan) -> None:
    first, second = plan.trials[:2]
    on_gpu = replace(second, spec=with_placement(second.spec, gpus_per_worker=1.0))
    found = times_of([on_gpu], [Measured(first.id, first.spec, 1e6, 10)])
    assert found.seconds[on_gpu.id] == on_gpu.seconds


def test_the_time_of_a_trial_is_that_of_the_attempt_that_ended_it(
    plan: Plan, tmp_path: Path
) -> None:
    store, trial = open_store(str(tmp_path / "runs")), plan.trials[0]
    write_ended(store, trial)
    result = stated_result(store, trial.id)
    assert isinstance(result, dict)
    (before,) = measured_in(store)
    moved = {key: value for key, value in result.items() if key != "content_sha256"}
    store.put(result_key(trial.id), sealed({**moved, "ended": result["ended"] + 100.0}))
    (after,) = measured_in(store)
    assert (after.trial, after.steps) == (trial.id, trial.spec.training.steps)
    assert after.seconds - before.seconds == pytest.approx(100.0)


def test_a_simulation_is_told_with_its_bound_and_drawn(plan: Plan, tmp_path: Path) -> None:
    found = simulated(plan, plan.trials[1:], [], Cluster(1, 0, 2))
    text = as_text(found)
    assert "on one node of 2 CPU cores, simulated: what is left, 3 trials." in text
    assert "times the bound" in text
    document = as_json(found)
    assert len(document["runs"]) == 3
    assert document["makespan_s"] >= document["bound_s"] > 0
    draw_gantt(found.schedule, "chaos", tmp_path / "gantt.svg")
    drawn = (tmp_path / "gantt.svg").read_text()
    assert "node 0" in drawn and "1 worker" in drawn
    draw_gantt(found.schedule, "chaos", tmp_path / "gantt.png")
    assert (tmp_path / "gantt.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"must end in \.svg or \.png"):
        check_kind(tmp_path / "gantt.bmp")
    with pytest.raises(UserError, match="cannot be written"):
        draw_gantt(found.schedule, "chaos", tmp_path / "none" / "gantt.svg")


def test_a_sweep_of_which_nothing_is_left_is_simulated_anew(plan: Plan) -> None:
    found = simulated(plan, [], [], Cluster(1, 0, 2))
    assert len(found.schedule.runs) == 4
    assert "the whole sweep, since nothing is left to run" in as_text(found)


@pytest.mark.parametrize("seed", range(4))
def test_an_order_that_was_simulated_is_never_worse_and_close_to_the_bound(
    plan: Plan, seed: int
) -> None:
    dice = random.Random(seed)
    first = plan.trials[0]
    trials = [
        replace(
            first,
            id=f"t{i}",
            spec=with_placement(first.spec, workers=dice.choice([1, 1, 2, 4]), gpus_per_worker=1.0),
            cost=replace(first.cost, seconds=dice.lognormvariate(0, 1)),
        )
        for i in range(40)
    ]
    nodes = [{"CPU": 64.0, "GPU": 4.0}] * 2
    seconds = {trial.id: trial.seconds for trial in trials}

    def makespan(order: list) -> float:
        return max(run.end_s for run in replayed(order, seconds, nodes))

    order = order_on(trials, nodes)
    assert {trial.id for trial in order} == set(seconds)
    assert makespan(order) <= makespan(launch_order(trials))
    assert bound_s(trials, nodes) <= makespan(order) <= 1.10 * bound_s(trials, nodes)
    found = simulate(order, seconds, Cluster(2, 4, 64))
    assert found.makespan_s == pytest.approx(makespan(order))
    assert found.bound_s <= found.makespan_s


def test_trials_that_fit_nowhere_keep_their_order_for_the_error_to_name(plan: Plan) -> None:
    assert order_on(plan.trials, [{"CPU": 0.0}]) == launch_order(plan.trials)


def test_the_command_simulates_what_the_store_lacks(plan: Plan, tmp_path: Path) -> None:
    picture = tmp_path / "gantt.svg"
    flags = ("--simulate", "nodes=1,cpus=2", "--gantt", str(picture))
    ran = plan_in_process(plan.path, "plan", *flags)
    assert ran["code"] == 0, ran["said"]
    assert "simulated: what is left, 4 trials." in ran["said"]
    assert picture.read_text().startswith("<?xml")
    ran = plan_in_process(plan.path, "plan", "--simulate", "nodes=1,cpus=2", "--no-state", "--json")
    assert len(json.loads(ran["said"])["runs"]) == 4


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--gantt", "x.svg"), "--gantt needs --simulate"),
        (("--simulate", "gpus=0"), "nothing to work on"),
        (("--simulate", "nodes=8,gpsu=8"), "'gpsu=8' is not understood"),
        (("--simulate", "nodes=2,gpus=4"), "no trial takes a GPU"),
        (("--simulate", "gpus=1", "--gantt", "x.bmp"), "must end in"),
    ],
)
def test_flags_of_a_simulation_that_do_not_fit_are_refused(
    plan: Plan, flags: tuple[str, ...], said: str
) -> None:
    ran = plan_in_process(plan.path, "plan", *flags)
    assert ran["code"] == 2 and said in ran["said"], ran["said"]
