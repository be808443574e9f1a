"""A run ends with what was overcome and what was not: where, why, what to do, and the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli.sweeps import status
from orchestrator.plan import Plan
from orchestrator.run.failing import Place, has_room, record_failure, wait_for_room
from orchestrator.run.outcome import Failure
from orchestrator.store import attempts
from orchestrator.store.base import Store
from orchestrator.store.records import sealed
from orchestrator.store.summary import outcomes
from orchestrator.store.survey import survey
from orchestrator.store.trials import looks_at
from orchestrator.store.troubles import diverged_in_words, end_in_words, in_words, troubles
from orchestrator.trials.log import log_lines
from tests.sweeps import comparing, plan_of
from tests.written_store import write_end, write_ended

TRACEBACK = 'Traceback (most recent call last):\n  File "/home/me/own.py", line 7, in forward\nE: x'


class Told:
    """A gang of two whose second worker no longer answers."""

    ranks = ({"host": "node-a"}, {"host": "node-b"})

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def keep_logs(self, *, stacks: bool) -> set[int]:
        self.asked.append(stacks)
        return {0}


class Held:
    """A lease that is never lost."""

    def renew(self) -> None:
        pass


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, comparing(seed="0, 1", training="steps: 40"))


def failed(store: Store, plan: Plan, number: int, failure: Failure, *, final: bool = False) -> Told:
    trial, gang = plan.trials[number], Told()
    attempt = attempts.new_attempt(store, trial, {"run": "now"})
    at = Place(store, trial.id, attempt, step=20, reached=33)
    record_failure(at, gang, Held(), failure, final=final)
    return gang


def test_a_retry_that_was_needed_names_cause_place_and_log(store: Store, plan: Plan) -> None:
    first = plan.trials[0]
    old = attempts.new_attempt(store, first, {"run": "before"})
    attempts.write_failure(store, first.id, old, "killed", "rank 0 by 9", final=False)
    gang = failed(store, plan, 0, Failure("hung", "rank 1 has made no progress", 1, TRACEBACK))
    assert gang.asked == [True], "stacks are asked for before anything is killed"
    asked = failed(store, plan, 0, Failure("interrupted", "stopped from outside")).asked
    assert asked == [], "nothing is wrong with it"
    last = attempts.new_attempt(store, first, {"run": "now"})
    write_end(store, first, last, 40)
    for trial in plan.trials[1:]:
        write_ended(store, trial)
    looks = looks_at(store, [trial.id for trial in plan.trials])
    (found,) = troubles(plan, looks, "now")
    log = f"trials/{first.id}/attempts/2/log/rank-0.log"
    assert found | {"message": ""} == {
        "trial": first.id,
        "name": first.name,
        "attempt": 2,
        "kind": "hung",
        "message": "",
        "host": "node-b",
        "rank": 1,
        "step": 20,
        "reached": 33,
        "log": log,
    }
    assert in_words([found], store.uri) == [
        "Overcome: 1",
        f"  {first.name}, attempt 2 took no step within its deadline at step 33 on node-b "
        "in rank 1: rank 1 has made no progress",
        f"    log: {store.uri}/{log}",
    ]
    assert [one["attempt"] for one in troubles(plan, looks)] == [1, 2], "of all runs"
    assert survey(store) == []


def test_what_ended_a_trial_for_good_is_not_called_overcome(store: Store, plan: Plan) -> None:
    failed(store, plan, 0, Failure("norm", "the norm own:Bad raised E: x (own.py, line 7)", 1))
    failed(
        store,
        plan,
        0,
        Failure("norm", "the norm own:Bad raised E: x (own.py, line 7)", 1, TRACEBACK),
        final=True,
    )
    looks = looks_at(store, [trial.id for trial in plan.trials])
    assert [one["attempt"] for one in troubles(plan, looks)] == [1]
    look = looks[plan.trials[0].id]
    said = end_in_words("NAME", look.state, look.failure, store.uri)
    assert said.splitlines() == [
        "failed: NAME: norm: the norm own:Bad raised E: x (own.py, line 7)",
        "  At step 33 on node-b in rank 1, attempt 2.",
        "  Mend the norm; its file and line are named.",
        f"  Log: {store.uri}/trials/{look.trial}/attempts/2/log/rank-0.log",
    ]
    lines = "\n".join(log_lines(store, look.trial))
    assert lines.index("raised E: x (own.py, line 7)") < lines.index('"/home/me/own.py", line 7')
    assert f"output: {store.uri}/trials/{look.trial}/attempts/2/log/rank-0.log" in lines


def test_giving_up_keeps_what_is_known_of_the_failure(store: Store, plan: Plan) -> None:
    failed(store, plan, 0, Failure("killed", "rank 1 was killed by signal 9", 1))
    trial = plan.trials[0].id
    attempts.give_up(store, trial, "", run="now")
    kept = attempts.failure_at(store, trial, 1)
    assert (kept["final"], kept["host"], kept["rank"], kept["reached"]) == (True, "node-b", 1, 33)


def test_a_checkpoint_that_was_passed_over_is_said(store: Store, plan: Plan) -> None:
    trial = plan.trials[0]
    for number, how in enumerate(("new", "older", "continued"), 1):
        attempt = attempts.new_attempt(store, trial, {"run": "now"})
        note = "continues from step 20, since a newer checkpoint is damaged (x is cut)"
        note = note if how == "older" else ""
        attempts.write_start(store, trial.id, attempt, step=20, how=how, note=note)
        assert attempt == number
    (found,) = troubles(plan, looks_at(store, [one.id for one in plan.trials]), "now")
    assert (found["kind"], found["attempt"]) == ("checkpoint", 2)
    assert "passed over" not in found["message"] and "x is cut" in found["message"]
    assert "had to pass over a damaged checkpoint: continues" in in_words([found], "")[1]


def test_a_trial_that_diverged_says_where(store: Store, plan: Plan) -> None:
    one, other = plan.trials[:2]
    write_ended(store, one, outcome="diverged", until=20)
    write_ended(store, other, outcome="diverged", until=10)
    result = json.loads(store.get(f"trials/{one.id}/result.json"))
    del result["content_sha256"]
    why = "the loss is nan; features are not finite from group_2 on"
    store.put(f"trials/{one.id}/result.json", sealed({**result, "why": why}))
    looks = looks_at(store, [trial.id for trial in plan.trials])
    assert diverged_in_words(plan, looks) == [
        f"  {one.name} diverged at step 20: {why}",
        f"  {other.name} diverged at step 10",
    ]
    assert [found["why"] for found in outcomes(plan, looks)[:2]] == [why, None]


def test_status_lists_what_was_overcome(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    failed(store, plan, 0, Failure("hung", "rank 1 has made no progress", 1))
    status(plan.path, store.uri, as_json=True)
    (found,) = json.loads(capsys.readouterr().out)["retries"]
    assert (found["kind"], found["rank"]) == ("hung", 1)
    status(plan.path, store.uri, as_json=False)
    assert "Overcome: 1" in capsys.readouterr().out


def test_a_full_disk_is_waited_for_and_others_are_not(tmp_path: Path) -> None:
    assert has_room([str(tmp_path), None, "s3://bucket/x", str(tmp_path / "not there")])
    waits: list[float] = []
    full = [str(tmp_path)]
    import orchestrator.run.failing as failing

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(failing, "ROOM_BYTES", 1 << 62)
        assert not wait_for_room(full, within_s=0.0, wait=waits.append)
        assert not wait_for_room(full, within_s=0.01, wait=waits.append)
    assert waits, "looked again"
    assert wait_for_room(full, within_s=0.0, wait=waits.append)
