"""How a run reports progress where there is no terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.plan import Plan, load_plan
from orchestrator.plan.states import State
from orchestrator.run.progress import Progress
from tests.sweeps import write_sweep


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_sweep(tmp_path, norms="layer_norm, i_ln", steps=100))


def told(plan: Plan, *, quiet: bool = False, json_lines: bool = False) -> None:
    first, second = plan.trials
    with Progress(plan, {}, quiet=quiet, json_lines=json_lines) as progress:
        progress.changed(first.id, State.RUNNING)
        progress.changed(first.id, State.RUNNING, {"step": 50, "loss": 0.25})
        progress.changed(first.id, State.DONE, {"step": 100, "loss": 0.2, "psnr": 30.0})
        progress.changed(second.id, State.RUNNING, {"step": 10, "loss": float("nan")})
        progress.warn("look at this")
        progress.line({"event": "summary", "done": 1})


def test_plain_lines_report_changes_of_state_and_how_much_is_left(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    told(plan)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert f"{plan.trials[0].name}: done, loss 0.2000, PSNR 30.00" in lines[1]
    assert "[1/2 ended" in lines[1]
    assert len(lines) == 4  # a step forward within seconds is not reported


def test_quiet_reports_only_what_is_wrong(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    told(plan, quiet=True)
    out, err = capsys.readouterr()
    assert (out, err.strip()) == ("", "look at this")


def test_json_lines_stand_alone_on_stdout(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    told(plan, json_lines=True)
    out, err = capsys.readouterr()
    records = [
        json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in out.splitlines()
    ]
    assert [record["event"] for record in records] == ["trial"] * 4 + ["summary"]
    assert (records[1]["step"], records[3]["loss"]) == (50, None)
    assert err.strip() == "look at this"


def test_each_move_of_a_trial_is_reported_once(plan: Plan) -> None:
    first, second = plan.trials
    with Progress(plan, {second.id: State.DONE}, quiet=True, json_lines=False) as progress:
        assert progress.moved() == frozenset(), "what the store says is no movement"
        progress.changed(first.id, State.RUNNING)
        progress.changed(first.id, State.RUNNING, {"step": 50})
        assert progress.moved() == {first.id}
        assert progress.moved() == frozenset()
        progress.changed(first.id, State.DONE)
        assert progress.moved() == {first.id}


def test_only_what_needs_no_training_counts_as_ended(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = plan.trials
    with Progress(
        plan, {first.id: State.INTERRUPTED, second.id: State.FAILED}, quiet=False, json_lines=False
    ) as progress:
        progress.changed(first.id, State.RUNNING)
        progress.changed(first.id, State.INTERRUPTED)
    assert [line.rpartition("[")[2] for line in capsys.readouterr().err.splitlines()] == [
        "0/2 ended]"
    ] * 2
