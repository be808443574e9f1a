"""`normsweep trials`: every trial of a store in a line, whatever state its files are in."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.store import attempts
from orchestrator.store.base import Store
from orchestrator.trials import table
from tests.in_process import Command
from tests.sweeps import comparing, plan_of
from tests.written_store import write_attempt, write_ended

TRAINING = "steps: 40, batch_size: 4, patch_size_px: 16"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, comparing(seed="0, 1, 2", training=TRAINING), "mine")


def filled(store: Store, plan: Plan) -> None:
    """A trial in each state: done, diverged, failed, running, interrupted, pending."""
    done, diverged, failed, running, interrupted, _ = plan.trials
    write_ended(store, done)
    write_ended(store, diverged, outcome="diverged", until=20)
    number = write_attempt(store, failed, 20)
    attempts.write_failure(store, failed.id, number, "other", "boom", final=True)
    attempts.say_alive(store, running.id, write_attempt(store, running, 10))
    number = write_attempt(store, interrupted, 5)
    attempts.write_failure(store, interrupted.id, number, "killed", "by 9", final=False)


def test_each_trial_has_its_state_step_metric_and_size(store: Store, plan: Plan) -> None:
    filled(store, plan)
    found = {row.id: row for row in table.rows(store)}
    shown = [
        (row.state, row.step, row.steps, row.name)
        for trial in plan.trials[:-1]
        if (row := found[trial.id])
    ]
    assert shown == [
        ("done", 40, 40, plan.trials[0].name),
        ("diverged", 20, 40, plan.trials[1].name),
        ("failed", 20, 40, plan.trials[2].name),
        ("running", 10, 40, plan.trials[3].name),
        ("interrupted", 5, 40, plan.trials[4].name),
    ]
    done = found[plan.trials[0].id]
    lines = [
        json.loads(line)
        for key in store.list(f"trials/{done.id}/attempts/1/journal")
        if key.endswith(".jsonl")
        for line in store.get(key).splitlines()
    ]
    last = [line["values"]["val/embedded-test/psnr"] for line in lines if line["step"] == 40]
    assert (done.metric, done.value) == ("val/embedded-test/psnr", last[-1])
    assert found[plan.trials[3].id].metric == "train/loss", "it has not been evaluated yet"
    files = [path for path in (Path(store.uri) / "trials" / done.id).rglob("*") if path.is_file()]
    assert done.bytes == sum(path.stat().st_size for path in files)
    assert done.changed == pytest.approx(time.time(), abs=60)


def test_a_sweep_file_shows_its_trials_in_its_order_with_pending_ones(
    store: Store, plan: Plan, command: Command
) -> None:
    filled(store, plan)
    code, said, _ = command("trials", plan.path, "--store", store.uri, "--json")
    shown = json.loads(said)["trials"]
    assert (code, [row["id"] for row in shown]) == (0, [trial.id for trial in plan.trials])
    assert (shown[-1]["state"], shown[-1]["bytes"], shown[-1]["value"]) == ("pending", 0, None)


def test_damaged_files_are_named_and_the_others_shown(
    store: Store, plan: Plan, command: Command
) -> None:
    filled(store, plan)
    (Path(store.uri) / "trials" / plan.trials[0].id / "result.json").write_bytes(b"\0" * 7)
    (Path(store.uri) / "trials" / plan.trials[1].id / "spec.json").write_bytes(b"{")
    code, said, _ = command("trials", "--store", store.uri)
    assert code == 0
    assert f"damaged: trials/{plan.trials[0].id}/result.json holds 7 zero bytes" in said
    assert f"damaged: trials/{plan.trials[1].id}/spec.json is not a spec" in said
    assert f"{plan.trials[0].id} damaged 40/40" in " ".join(said.split())
    assert plan.trials[1].name in said, "the attempt has recorded its spec as well"


def test_reading_makes_nothing_and_a_store_that_is_not_there_is_an_error(
    tmp_path: Path, command: Command
) -> None:
    code, _, said = command("trials", "--store", tmp_path / "nix")
    assert code == 2
    assert f"--store {tmp_path / 'nix'}: there is no such store" in said
    assert not (tmp_path / "nix").exists()
    (tmp_path / "empty").mkdir()
    code, said, _ = command("trials", "--store", tmp_path / "empty")
    assert (code, said) == (0, f"The store {tmp_path / 'empty'} has no trials.\n")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_no_number_is_cut_in_a_narrow_terminal(store: Store, plan: Plan, width: int) -> None:
    filled(store, plan)
    found = table.rows(store)
    text = table.as_text(store.uri, found, width)
    lines = text.splitlines()[1:-2]
    assert max(map(len, lines)) <= width
    for row, line in zip(found, lines, strict=True):
        words = line.split()
        assert words[:2] == [row.id, row.state]
        assert f"{row.step}/{row.steps}" in words or "step" not in text.splitlines()[0]
        psnr = row.metric.endswith("psnr") and "newest" in text.splitlines()[0]
        assert not psnr or f"{row.value:.3f}" in words
    assert all(trial.name in table.as_text(store.uri, found) for trial in plan.trials[:-1])
