"""`normsweep diff`, and `plan`'s reasons why a trial that was done is pending again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.store import attempts, open_store
from orchestrator.store.base import Store
from orchestrator.store.journals import put_segment
from orchestrator.store.names import claim_name
from orchestrator.store.trials import looks_at
from orchestrator.trials import differ, why
from tests.counted_store import CountedStore
from tests.in_process import command
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
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ended(store, plan.trials[0])
    code, _, said = command(
        capsys, monkeypatch, "diff", plan.trials[0].id, "i_ln", "--store", store.uri
    )
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
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_sweep(store, plan)
    claim_name(plan, store)
    edited = planned(tmp_path, TRAINING.replace("40", "60"))
    code, said, _ = command(capsys, monkeypatch, "plan", edited.path, "--store", store.uri)
    assert code == 0
    assert "  training.steps: 40 then, 60 now  (" in said
    code, said, _ = command(
        capsys, monkeypatch, "plan", edited.path, "--store", store.uri, "--json"
    )
    changes = json.loads(said)["changed"]
    assert changes[0]["changes"] == [{"field": "training.steps", "then": "40", "now": "60"}]
    assert changes[0]["was"] == plan.trials[0].id
