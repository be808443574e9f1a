"""The states of very many trials cost one listing and a read of each that has begun."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan, load_plan
from orchestrator.plan.states import State
from orchestrator.store import FolderStore, attempts, census, children, open_store
from orchestrator.store.base import Store
from orchestrator.store.trials import Look, glance_at, looks_at
from orchestrator.store.troubles import troubles
from tests.counted_store import CountedStore
from tests.sweeps import write_sweep
from tests.written_store import write_attempt, write_ended


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    norms = "layer_norm, i_ln, rms_norm, none, rezero, layer_scale"
    return load_plan(write_sweep(tmp_path, norms=norms, steps=40))


@pytest.fixture
def store(tmp_path: Path, plan: Plan) -> CountedStore:
    """Completed, diverged, running, failed, interrupted and pending, in this order."""
    store = CountedStore(open_store(str(tmp_path / "runs")))
    done, diverged, running, failed, interrupted, _ = plan.trials
    write_ended(store, done)
    write_ended(store, diverged, outcome="diverged", until=20)
    attempts.say_alive(store, running.id, write_attempt(store, running, 20))
    number = write_attempt(store, failed, 20)
    attempts.write_failure(store, failed.id, number, "killed", "by signal 9", final=True)
    number = write_attempt(store, interrupted, 20)
    attempts.write_start(store, interrupted.id, number, step=10, how="resumed", note="on one GPU")
    attempts.write_failure(store, interrupted.id, number, "interrupted", "", final=False)
    store.requests()
    return store


OVERCOME = ("killed", "ray lost", "checkpoint")
STATES = ["done", "diverged", "running", "failed", "interrupted", "pending"]


def test_a_census_finds_the_states_that_a_glance_at_each_trial_finds(
    store: CountedStore, plan: Plan
) -> None:
    found = census.census(store, [trial.id for trial in plan.trials])
    assert [found[trial.id].state for trial in plan.trials] == STATES
    for trial in plan.trials:
        seen, look = glance_at(store, trial.id), found[trial.id]
        assert (look.state, look.attempts, look.step) == (seen.state, seen.attempts, seen.step)
        assert (look.result, look.failure) == (seen.result, seen.failure)


def test_a_census_knows_what_was_overcome_as_a_full_look_does(
    store: CountedStore, plan: Plan
) -> None:
    for trial in (plan.trials[0], plan.trials[5]):  # tried again: one after its end, one before it
        for kind in ("killed", "interrupted", "ray lost"):
            number = write_attempt(store, trial, 20)
            attempts.write_failure(store, trial.id, number, kind, f"{kind} it was", final=False)
        number = write_attempt(store, trial, 20)
        attempts.write_start(store, trial.id, number, step=10, how="older", note="one is damaged")
    ids = [trial.id for trial in plan.trials]
    found = troubles(plan, census.census(store, ids))
    assert found == troubles(plan, looks_at(store, ids))
    overcome = [(plan.trials[i].id, kind) for i in (0, 5) for kind in OVERCOME]
    assert [(one["trial"], one["kind"]) for one in found] == overcome


def test_a_census_costs_one_listing_and_a_read_of_each_state(
    store: CountedStore, plan: Plan
) -> None:
    census.census(store, [trial.id for trial in plan.trials])
    # Two results, a sign of life, who trains it, two failures, and how the interrupted one began.
    assert store.requests() == {"list": 1, "get": 7}


def test_a_store_that_keeps_one_waiting_is_read_by_several_threads(
    store: CountedStore, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "AT_ONCE", 1)
    monkeypatch.setattr(census, "MANY_WAITS", 1)
    readers = set()

    def wait(request: str, key: str) -> None:
        readers.add(threading.get_ident())
        time.sleep(0.001)

    far = CountedStore(open_store(str(tmp_path / "runs")), wait)
    ids = [trial.id for trial in plan.trials]
    assert census.census(far, ids) == census.census(store, ids)
    assert far.requests() == store.requests()
    assert len(readers) > 1


def test_a_census_of_some_trials_leaves_the_others_unread(store: CountedStore, plan: Plan) -> None:
    found = census.census(store, [plan.trials[0].id, "f" * 16])
    assert {look.state for look in found.values()} == {State.DONE, State.PENDING}
    assert store.requests() == {"list": 1, "get": 1}


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("checkpoints/step-00000040-1/ema.pt", "is missing"),
        ("attempts/1/journal", "is missing"),
        ("result.json", "is cut off"),
    ],
)
def test_what_a_result_names_and_the_store_lacks_is_damage(
    store: CountedStore, plan: Plan, tmp_path: Path, file: str, why: str
) -> None:
    trial = plan.trials[0].id
    (path,) = (tmp_path / "runs" / "trials" / trial).glob(
        f"{file}/*.jsonl" if file.endswith("journal") else file
    )
    path.write_text('{"a": ') if file == "result.json" else path.unlink()
    look = census.census(store, [trial])[trial]
    assert look.state == State.DAMAGED
    assert why in str(look.damaged[0])


def test_a_checkpoint_of_another_size_is_damage(
    store: CountedStore, plan: Plan, tmp_path: Path
) -> None:
    trial = plan.trials[0].id
    weights = tmp_path / "runs" / "trials" / trial / "checkpoints/step-00000040-1/ema.pt"
    weights.write_bytes(b"cut")
    assert "has 3 bytes, not 7" in str(census.census(store, [trial])[trial].damaged[0])


def test_few_trials_are_looked_at_in_full_and_many_are_said_not_to_be(
    store: CountedStore, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, said = census.looks_at_plan(str(tmp_path / "runs"), plan)
    assert said == "" and looks[plan.trials[0].id].tried
    monkeypatch.setattr(census, "MANY", 5)
    looks, said = census.looks_at_plan(str(tmp_path / "runs"), plan)
    assert [looks[trial.id].state for trial in plan.trials] == STATES
    assert looks[plan.trials[4].id].note == "on one GPU"
    assert said.startswith("6 trials: only what their states depend on was read.")


def test_a_store_that_is_not_there_has_no_trials(plan: Plan, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "new"))
    found = census.census(store, [trial.id for trial in plan.trials])
    assert {look.state for look in found.values()} == {State.PENDING}


@pytest.fixture
def halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few trials are many, and another process reads half of them."""
    monkeypatch.setattr(census, "MANY", 4)
    monkeypatch.setattr(children, "is_cheap", lambda: True)
    monkeypatch.setattr(children, "context", lambda: multiprocessing.get_context("fork"))


@pytest.mark.usefixtures("store", "halved")
def test_half_of_a_folder_is_read_by_another_process(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_here: list[str] = []
    look = census._look

    def noted(store: Store, trial_id: str, files: census.Sizes) -> Look:
        read_here.append(trial_id)
        return look(store, trial_id, files)

    monkeypatch.setattr(census, "_look", noted)
    looks = census.census(open_store(str(tmp_path / "runs")), [one.id for one in plan.trials])
    assert [look.trial for look in looks.values()] == [trial.id for trial in plan.trials]
    assert [look.state for look in looks.values()] == STATES
    assert len(read_here) == 3, "of five that have begun"


@pytest.mark.usefixtures("store", "halved")
def test_what_hinders_the_other_process_is_said_by_this_one(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(self: FolderStore, key: str) -> bytes:
        raise EnvironmentProblem("the disk is failing")

    monkeypatch.setattr(FolderStore, "get", fail)
    with pytest.raises(EnvironmentProblem, match="the disk is failing"):
        census.census(open_store(str(tmp_path / "runs")), [one.id for one in plan.trials])
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("store", "halved")
def test_what_hinders_this_process_leaves_the_other_one_silent(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    get, here = FolderStore.get, os.getpid()

    def fail(self: FolderStore, key: str) -> bytes:
        if os.getpid() == here:
            raise EnvironmentProblem("the disk is failing")
        time.sleep(0.5)  # nobody waits for what it will say
        return get(self, key)

    monkeypatch.setattr(FolderStore, "get", fail)
    with pytest.raises(EnvironmentProblem, match="the disk is failing"):
        census.census(open_store(str(tmp_path / "runs")), [one.id for one in plan.trials])
    for child in multiprocessing.active_children():
        child.join(timeout=30)
    assert capfd.readouterr() == ("", "")
