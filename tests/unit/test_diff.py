"""`normsweep diff`, and `plan`'s reasons why a trial that was done is pending again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.plan import Plan
from orchestrator.store import attempts, open_store
from orchestrator.store.base import Store
from orchestrator.store.journals import put_segment
from orchestrator.store.names import claim_name
from orchestrator.store.trials import looks_at
from orchestrator.trials import differ, sweeps, why
from tests.counted_store import CountedStore
from tests.in_process import Command
from tests.sweeps import comparing, plan_of
from tests.written_store import write_attempt, write_end, write_ended, write_sweep

TRAINING = "steps: 40, batch_size: 4, patch_size_px: 16"
NORM = """\
import torch
from trainers.norms.base import Norm, Normed


class Own(Norm):
    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x):
        return Normed(x * 1.0)
"""


def planned(folder: Path, training: str = TRAINING, name: str = "mine", **axes: str) -> Plan:
    return plan_of(folder, comparing(training=training, **{"seed": "0, 1", **axes}), name)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return planned(tmp_path)


def last_psnr(store: Store, trial: str) -> float:
    keys = store.list(f"trials/{trial}/attempts/1/journal")
    texts = [store.get(key) for key in keys if key.endswith(".jsonl")]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    (value,) = [
        line["values"]["val/embedded-test/psnr"]
        for line in lines
        if line["step"] == 40 and "val/embedded-test/psnr" in line.get("values", {})
    ]
    return float(value)


def test_the_fields_that_differ_are_listed_and_the_scores_stand_side_by_side(
    store: Store, plan: Plan
) -> None:
    one, _, other, _ = plan.trials
    write_ended(store, one)
    number = attempts.new_attempt(store, other, {"commit": "beef", "versions": {"torch": "9.9"}})
    write_end(store, other, number, 40)
    found = differ.compare(store, one.id[:9], other.name)
    fields = {field: (a, b) for field, a, b in found.fields}
    assert fields["model.norm.name"] == ("layer_norm", "i_ln")
    assert fields["commit"] == ("c0ffee" * 6, "beef")
    assert fields["versions.torch"] == ("2.13.0", "9.9")
    assert "training.steps" not in fields
    scores = [row for row in differ._scores(found) if row[0] == "embedded-test/psnr"]
    assert scores == [("embedded-test/psnr", f"{last_psnr(store, one.id):.5g}", "-")]
    text = differ.as_text(found)
    assert f"A: {one.name} ({one.id}), done" in text
    assert json.loads(json.dumps(differ.as_json(found)))["b"]["id"] == other.id


def test_two_alike_trials_differ_in_nothing_and_damage_is_named(store: Store, plan: Plan) -> None:
    one, other = plan.trials[:2]
    write_ended(store, one)
    same = differ.compare(store, one.id, one.id)
    assert same.fields == ()
    assert "Nothing that was recorded differs." in differ.as_text(same)
    write_attempt(store, other, 10)
    store.put(f"trials/{other.id}/spec.json", b"")
    store.put(f"trials/{other.id}/attempts/1/attempt.json", b"")
    found = differ.compare(store, one.id, other.id)
    assert f"The spec of {other.id} cannot be read, so specs are not compared." in found.notes
    assert any(note.startswith("damaged: ") for note in found.notes)


def test_a_score_that_is_not_finite_is_said_and_is_json(store: Store, plan: Plan) -> None:
    number = attempts.new_attempt(store, plan.trials[0], {})
    line = {"seq": 0, "time": 1.0, "step": 1, "kind": "metrics", "values": {"train/loss": "nan"}}
    put_segment(store, plan.trials[0].id, number, 0, (json.dumps(line) + "\n").encode())
    found = differ.compare(store, plan.trials[0].id, plan.trials[0].id)
    said = json.dumps(differ.as_json(found), allow_nan=False)
    assert json.loads(said)["a"]["scores"] == {"train/loss": "nan"}


def test_an_unknown_trial_is_an_error_of_the_user(
    store: Store, plan: Plan, command: Command
) -> None:
    write_ended(store, plan.trials[0])
    code, _, said = command("diff", plan.trials[0].id, "i_ln", "--store", store.uri)
    assert code == 2
    assert "There is no trial 'i_ln'" in said


# --- why a trial is pending again


def reasons(store: Store, plan: Plan) -> list[why.Changed]:
    looks = looks_at(store, [trial.id for trial in plan.trials])
    return why.changed(store, plan, {trial: look.state for trial, look in looks.items()})


def test_a_field_that_was_changed_is_named_with_both_values(
    store: Store, plan: Plan, tmp_path: Path
) -> None:
    write_sweep(store, plan)
    claim_name(plan, store)
    assert reasons(store, plan) == []
    edited = planned(tmp_path, TRAINING.replace("40", "60") + ", lr: 1.0e-3")
    found = reasons(store, edited)
    assert [(one.trial.id, one.was) for one in found] == [
        (now.id, then.id) for now, then in zip(edited.trials, plan.trials, strict=True)
    ]
    lr = plan.trials[0].spec.training.lr
    assert {str(change) for one in found for change in one.changes} == {
        "training.steps: 40 then, 60 now",
        f"training.lr: {lr} then, 0.001 now",
    }
    (_, heading, line) = why.as_text(found)
    assert heading == "Pending though done before, since this has changed"
    assert line.endswith(f"({edited.trials[0].name}, done as {plan.trials[0].id} and 3 more)")


def test_the_source_of_a_norm_that_was_changed_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine_own.py").write_text(NORM)
    before = planned(tmp_path, norm="layer_norm, 'mine_own:Own'")
    write_sweep(store, before)
    claim_name(before, store)
    (tmp_path / "mine_own.py").write_text(NORM.replace("x * 1.0", "x * 2.0"))
    after = planned(tmp_path, norm="layer_norm, 'mine_own:Own'")
    found = reasons(store, after)
    assert {one.trial.axes["norm"] for one in found} == {"mine_own:Own"}
    assert {str(change) for one in found for change in one.changes} == {"the source of its norm"}


def test_new_trials_and_those_that_never_ended_have_no_reason(
    store: Store, plan: Plan, tmp_path: Path
) -> None:
    write_ended(store, plan.trials[0])
    write_attempt(store, plan.trials[1], 10)
    claim_name(plan, store)
    more = planned(tmp_path, TRAINING.replace("40", "60"), seed="1, 2")
    assert reasons(store, more) == []


def test_where_nothing_has_changed_it_costs_one_read(tmp_path: Path, plan: Plan) -> None:
    store = CountedStore(open_store(str(tmp_path / "runs")))
    assert why.changed(store, plan, {}) == []
    assert store.requests() == {"get": 1}
    claim_name(plan, store)
    store.requests()
    assert why.changed(store, plan, {}) == []
    assert store.requests() == {"get": 1}


def test_plan_prints_the_reasons(
    store: Store,
    plan: Plan,
    tmp_path: Path,
    command: Command,
) -> None:
    write_sweep(store, plan)
    claim_name(plan, store)
    edited = planned(tmp_path, TRAINING.replace("40", "60"))
    code, said, _ = command("plan", edited.path, "--store", store.uri)
    assert code == 0
    assert "  training.steps: 40 then, 60 now  (" in said
    code, said, _ = command("plan", edited.path, "--store", store.uri, "--json")
    changes = json.loads(said)["changed"]
    assert changes[0]["changes"] == [{"field": "training.steps", "then": "40", "now": "60"}]
    assert changes[0]["was"] == plan.trials[0].id


# --- two sweeps, and one sweep at two dates


NOON = 1_764_500_000.0  # 2025-11-30T10:53:20Z


def ended_at(
    store: Store, plan: Plan, when: float, monkeypatch: pytest.MonkeyPatch, **fields: Any
) -> None:
    """Write a sweep's trials as having ended at this time, their attempts with these fields."""
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: when)
        for trial in plan.trials:
            number = attempts.new_attempt(store, trial, fields)
            value = 30.0 + trial.spec.training.steps / 100
            line = {"seq": 0, "time": when, "step": 40, "kind": "metrics"}
            line["values"] = {"val/embedded-test/psnr": value}
            put_segment(store, trial.id, number, 0, (json.dumps(line) + "\n").encode())
            write_end(store, trial, number, 40, sweep=plan.sweep)
    claim_name(plan, store)


def difference(store: Store, *given: str | None, since: str | None = None) -> tuple[str, dict]:
    one, other = given
    after = None if since is None else sweeps.moment(since, datetime.now(UTC))
    return sweeps.difference(store, one or "", other, after)


@pytest.fixture
def two_dates(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Plan, Plan, Plan]:
    """A sweep that was run, edited and run again two days later, and another sweep."""
    before = planned(tmp_path)
    ended_at(store, before, NOON - 2 * 86_400, monkeypatch, commit="c0ffee")
    lr = TRAINING + ", lr: 1.0e-3"
    other = planned(tmp_path, lr, name="theirs", norm="layer_norm", seed="0, 2")
    ended_at(store, other, NOON - 86_400, monkeypatch, commit="c0ffee")
    after = planned(tmp_path, TRAINING.replace("40", "60"), seed="0, 1, 3")
    ended_at(store, after, NOON, monkeypatch, commit="beef")
    return before, other, after


def test_a_sweep_is_compared_with_what_has_ended_since_a_date(
    store: Store, two_dates: tuple[Plan, Plan, Plan]
) -> None:
    before, _, after = two_dates
    text, found = difference(store, "mine", None, since="2025-11-30")
    assert {trial["id"] for trial in found["a"]["trials"]} == {one.id for one in before.trials}
    assert {trial["id"] for trial in found["b"]["trials"]} == {one.id for one in after.trials}
    assert found["pairs"] == sorted(trial.name for trial in before.trials)
    fields = {one["field"]: (one["a"], one["b"], one["pairs"]) for one in found["fields"]}
    assert fields == {"training.steps": ("40", "60", 4), "commit": ("c0ffee", "beef", 4)}
    lines = text.splitlines()
    assert "training.steps  40      60    4 of 4" in lines
    name = before.trials[0].name
    (score,) = [line.split() for line in lines if line.startswith(name) and "/psnr" in line]
    assert score[-4:] == ["embedded-test/psnr", "30.400", "30.600", "+0.200"]
    new = [trial for trial in after.trials if trial.spec.training.seed == 3]
    assert [f"only B: {one.name} ({one.id})" in lines for one in new] == [True, True]


def test_the_time_of_day_of_a_date_counts(store: Store, two_dates: tuple[Plan, Plan, Plan]) -> None:
    before, _, after = two_dates
    for since, number in {
        "2025-11-30T10:53:20": len(after.trials),
        "2025-11-30T10:53:21": 0,
        "2025-11-30T12:53:20+02:00": len(after.trials),
        "2025-11-28": len(after.trials),  # of those with one name, the one that ended last
    }.items():
        _, found = difference(store, "mine", None, since=since)
        assert len(found["b"]["trials"]) == number, since
    assert found["a"]["trials"] == [] and found["b"]["uncounted"] == len(before.trials)


def test_two_sweeps_are_compared_by_the_names_of_their_trials(
    store: Store, two_dates: tuple[Plan, Plan, Plan]
) -> None:
    _, other, after = two_dates
    text, found = difference(store, "theirs", "mine")
    (pair,) = found["pairs"]
    assert pair == other.trials[0].name == after.trials[0].name
    assert len(found["a"]["trials"]) == 2 and len(found["b"]["trials"]) == len(after.trials)
    assert "A: theirs, 2 trials that have ended" in text
    assert "B: mine, 6 trials that have ended (4 others are not counted)" in text
    _, found = difference(store, "theirs", "mine", since="2025-11-30")
    assert found["a"]["trials"] == found["pairs"] == []
    assert len(found["b"]["trials"]) == len(after.trials)


def test_values_of_an_axis_of_training_are_trials_apart(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = {"seed": "0", "norm": "i_ln", "lr": "1.0e-4, 2.0e-4"}
    for steps, when in (("40", NOON - 86_400), ("60", NOON)):
        plan = planned(tmp_path, TRAINING.replace("40", steps), **axes)
        ended_at(store, plan, when, monkeypatch)
    _, found = difference(store, "mine", None, since="2025-11-30")
    assert [name.rpartition(" ")[2] for name in found["pairs"]] == ["lr=0.0001", "lr=0.0002"]
    assert [(one["field"], one["pairs"]) for one in found["fields"]] == [("training.steps", 2)]


def test_a_trial_that_ended_before_the_date_is_refused(
    store: Store, two_dates: tuple[Plan, Plan, Plan]
) -> None:
    before, _, after = two_dates
    text, _ = difference(store, after.trials[0].id, after.trials[1].id, since="2025-11-30")
    assert "A: " in text
    with pytest.raises(UserError, match=f"{before.trials[0].id} ended before, at 2025-11-28T10:53"):
        difference(store, after.trials[0].id, before.trials[0].id, since="2025-11-30")


WRONG = {
    "a word": (("mine", "--since", "yesterday"), "--since yesterday: not a date. Write it as 20"),
    "no such day": (("mine", "--since", "2025-11-31"), "--since 2025-11-31: not a date"),
    "a day to come": (("mine", "--since", "3025-11-30"), "--since 3025-11-30: is in the future"),
    "one sweep without a date": (("mine",), "mine alone cannot be compared"),
    "one trial": (("i_ln", "--since", "2025-11-30"), "i_ln alone cannot be compared"),
    "a sweep and a trial": (("mine", "i_ln"), "only one is a sweep"),
    "unknown": (("i_ln", "nin", "--since", "2025-11-30"), "There is no trial 'i_ln'"),
}


@pytest.mark.parametrize(("given", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_compared_is_an_error_of_the_user(
    store: Store,
    plan: Plan,
    command: Command,
    given: tuple[str, ...],
    said: str,
) -> None:
    claim_name(plan, store)
    code, _, wrong = command("diff", *given, "--store", store.uri)
    assert code == 2
    assert said in wrong


def test_a_comparison_of_dates_is_json_too(
    store: Store,
    two_dates: tuple[Plan, Plan, Plan],
    command: Command,
) -> None:
    flags = ("--since", "2025-11-30", "--store", store.uri, "--json")
    code, said, _ = command("diff", "mine", *flags)
    assert code == 0
    assert len(json.loads(said)["pairs"]) == len(two_dates[0].trials)
