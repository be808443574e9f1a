"""To find out what a trial is costs one listing, and the reads that its state needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.plan.states import State
from orchestrator.report.frame import read_frame
from orchestrator.store import attempts, open_store
from orchestrator.store.listing import listed
from orchestrator.store.results import write_evaluation
from orchestrator.store.trials import glance, glance_at, look_at, read_trial
from tests.counted_store import CountedStore
from tests.sweeps import write_sweep
from tests.written_store import write_attempt, write_ended


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_sweep(tmp_path, norms="layer_norm, i_ln", steps=40))


@pytest.fixture
def store(tmp_path: Path) -> CountedStore:
    return CountedStore(open_store(str(tmp_path / "runs")))


@pytest.mark.parametrize("look", [glance_at, look_at])
def test_a_pending_trial_costs_one_list_and_no_read(
    store: CountedStore, trial: Trial, look: Callable
) -> None:
    assert look(store, trial.id).state == State.PENDING
    assert store.requests() == {"list": 1}


def test_a_running_trial_costs_one_list_and_its_sign_of_life(
    store: CountedStore, trial: Trial
) -> None:
    attempt = write_attempt(store, trial, 20)
    attempts.say_alive(store, trial.id, attempt)
    store.requests()
    look = glance_at(store, trial.id)
    assert (look.state, look.attempts) == (State.RUNNING, (1,))
    assert store.requests() == {"list": 1, "get": 1}
    assert glance(store, listed(store, trial.id), heard=True).state == State.RUNNING
    assert store.requests() == {"list": 1}, "somebody has just heard of it"


def test_a_failed_trial_costs_one_list_and_its_failure(store: CountedStore, trial: Trial) -> None:
    for _ in range(3):
        attempt = write_attempt(store, trial, 20)
        attempts.write_failure(store, trial.id, attempt, "killed", "by signal 9", final=True)
    store.requests()
    look = glance_at(store, trial.id)
    assert look.state == State.FAILED
    assert look.failure is not None
    assert look.failure["message"] == "by signal 9"
    assert store.requests() == {"list": 1, "get": 1}


def test_an_ended_trial_costs_its_result_and_what_that_promises(
    store: CountedStore, trial: Trial
) -> None:
    write_attempt(store, trial, 20)
    write_ended(store, trial)
    store.requests()
    look = glance_at(store, trial.id)
    assert (look.state, look.step) == (State.DONE, 40)
    assert store.requests() == {"list": 1, "get": 1 + 2, "size": 1}, (
        "a segment of each attempt, and the weights"
    )


def test_looking_at_everything_reads_each_file_once(store: CountedStore, trial: Trial) -> None:
    attempt = write_attempt(store, trial, 20)
    attempts.write_start(store, trial.id, attempt, step=0, how="anew")
    attempts.write_failure(store, trial.id, attempt, "killed", "by signal 9", final=False)
    write_ended(store, trial)
    write_evaluation(
        store, trial.id, "Set5-fp32", {"benchmark": "Set5", "precision": "fp32", "images": []}
    )
    keys = store.list(f"trials/{trial.id}")
    store.requests()
    look, points = read_trial(store, trial.id, verify=True)
    assert (look.state, look.damaged, bool(points)) == (State.DONE, (), True)
    assert max(store.asked.values()) == 1
    assert {key for request, key in store.asked if request == "get"} == set(keys) - set(
        look.evaluations
    )
    assert [key for request, key in store.asked if request == "list"] == [f"trials/{trial.id}"]


def test_a_report_lists_each_trial_once_and_reads_each_file_once(
    store: CountedStore, plan: Plan
) -> None:
    for trial in plan.trials:
        write_ended(store, trial)
        write_evaluation(
            store, trial.id, "Set5-fp32", {"benchmark": "Set5", "precision": "fp32", "images": []}
        )
    store.requests()
    read_frame(plan, store)
    assert sorted(key for request, key in store.asked if request == "list") == sorted(
        f"trials/{trial.id}" for trial in plan.trials
    )
    assert max(store.asked.values()) == 1


def test_states_are_printed_as_their_words_and_told_apart_by_what_they_mean() -> None:
    assert [f"{state}" for state in State if state.has_ended] == ["done", "diverged"]
    assert [str(state) for state in State if state.has_result] == ["done", "diverged", "stopped"]
    assert {state.value for state in State if state.is_open} == {
        "running",
        "retrying",
        "interrupted",
        "pending",
    }
    assert State.of_outcome("completed") is State.DONE
    assert State.of_outcome("stopped") is State.STOPPED
    assert State.INTERRUPTED.at(40, 100) == "interrupted, step 40 of 100"
    assert State.DIVERGED.at(37.0, 100) == "diverged at step 37"
    assert State.FAILED.at(7, 100) == "failed"
