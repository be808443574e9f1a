"""How a run reports progress where there is no terminal."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.plan import Gpus, Plan, load_plan
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
    for record in records:
        then = datetime.fromisoformat(record["time"])
        assert then.utcoffset() == timedelta(0)
        assert abs((datetime.now(UTC) - then).total_seconds()) < 600
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


def test_the_sums_in_a_line_are_those_of_all_trials(plan: Plan) -> None:
    first, second = plan.trials
    steps: list[tuple[str, State, dict[str, int]]] = [
        (first.id, State.RUNNING, {"step": 0}),
        (first.id, State.RUNNING, {"step": 33}),
        (second.id, State.RUNNING, {"step": 7}),
        (first.id, State.RETRYING, {}),
        (second.id, State.DONE, {"step": 100}),
        (first.id, State.FAILED, {"step": 40}),
    ]
    with Progress(plan, {}, quiet=False, json_lines=False) as progress:
        progress.placed(plan, Gpus(0, "this machine has none"))
        for trial, state, result in steps:
            progress.changed(trial, state, result)
            shares = [row.share for row in progress._rows.values()]
            assert progress._share == tuple(map(sum, zip(*shares, strict=True)))
    assert progress._share.ended == 2
    assert progress._share.done_us == progress._share.cost_us


def test_json_has_a_line_for_each_change_and_no_other(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = plan.trials
    with Progress(plan, {}, quiet=True, json_lines=True) as progress:
        progress.phase("starting Ray")
        for _ in range(3):
            progress.changed(first.id, State.RUNNING, {"step": 0, "phase": "staging data"})
            progress.changed(second.id, State.RUNNING, {"step": 5, "loss": float("nan")})
        progress.changed(first.id, State.RUNNING, {"step": 1, "phase": "", "loss": 0.5})
        progress.changed(first.id, State.DONE, {"step": 1, "phase": "", "loss": 0.5})
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r.get("phase"), r.get("trial"), r.get("state")) for r in records] == [
        ("starting Ray", None, None),
        ("staging data", first.id, "running"),
        (None, second.id, "running"),
        (None, first.id, "running"),
        (None, first.id, "done"),
    ]


def test_a_dumb_terminal_gets_a_plain_line_per_change(
    plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes this for a terminal
    first, _ = plan.trials
    with Progress(plan, {}, quiet=False, json_lines=False) as progress:
        assert progress._console.is_terminal
        progress.phase("starting Ray")
        for phase in ("starting workers", "staging data", "first evaluation"):
            progress.changed(first.id, State.RUNNING, {"step": 0, "phase": phase})
            progress.changed(first.id, State.RUNNING, {"step": 0, "phase": phase})
        progress.changed(first.id, State.RUNNING, {"step": 1, "phase": "", "loss": 0.5})
    lines = [line.strip().split("  ", 1)[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "starting Ray"
    assert [line.partition("   ")[0] for line in lines[1:]] == [
        f"{first.name}: starting workers",
        f"{first.name}: staging data",
        f"{first.name}: first evaluation",
        f"{first.name}: running, step 1/100, loss 0.5000",
    ]


def test_nothing_new_is_no_line(
    plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("orchestrator.run.progress.time.monotonic", lambda: clock[0])
    first, _ = plan.trials
    with Progress(plan, {}, quiet=False, json_lines=False) as progress:
        for seconds, step in ((1.0, 0), (20.0, 0), (40.0, 5), (60.0, 5), (61.0, 6)):
            clock[0] = seconds
            progress.changed(first.id, State.RUNNING, {"step": step})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(f"step {step}/100" in line for step, line in zip((0, 5, 6), lines, strict=True))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_time_left_is_that_of_what_this_run_has_not_trained_yet(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    """Wherever it is shown: of two equal trials, one from step 50 on took 60 s."""
    clock = [0.0]
    monkeypatch.setattr("orchestrator.run.progress.time.monotonic", lambda: clock[0])
    monkeypatch.setenv("TERM", "xterm" if is_terminal else "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")
    first, second = plan.trials
    equal = replace(plan, trials=tuple(replace(trial, cost=first.cost) for trial in plan.trials))
    reached = {first.id: 50, second.id: 0}
    progress = Progress(equal, {}, quiet=False, json_lines=False, reached=reached)
    assert (progress._live is not None) == is_terminal
    clock[0] = 60.0
    progress.changed(first.id, State.DONE, {"step": 100})
    assert progress._overall() == "[1/2 ended, about 2 min left]"
    clock[0] = 120.0
    progress.changed(second.id, State.RUNNING, {"step": 50})
    assert progress._overall() == "[1/2 ended, about 60 s left]"


def test_an_interrupted_trial_is_interrupted_until_it_runs(plan: Plan) -> None:
    first, second = plan.trials
    states = {first.id: State.INTERRUPTED, second.id: State.DAMAGED}
    progress = Progress(plan, states, quiet=True, json_lines=False, reached={first.id: 5})
    assert [row.state for row in progress._rows.values()] == [State.INTERRUPTED, State.DAMAGED]
    assert "[1/2 ended" in progress._overall()


def test_a_line_shows_labels_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, norms="i_ln, {name: i_ln, rescale: false}")
    plan = load_plan(path)
    with Progress(plan, {}, quiet=False, json_lines=False) as progress:
        progress.changed(plan.trials[1].id, State.RUNNING)
        progress.warn("[bold]:fire: i_ln[eps=0.1]")
    said = capsys.readouterr().err
    assert "i_ln[rescale=False] sr_x2" in said
    assert "[bold]:fire: i_ln[eps=0.1]" in said
