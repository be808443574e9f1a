"""A verb finds the store that was meant, or says that there is none; so does the next command."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from orchestrator import cli, hints
from orchestrator.errors import UserError
from orchestrator.plan import Plan
from orchestrator.plan.show import counts, tally
from orchestrator.plan.states import State
from orchestrator.run import driver
from orchestrator.run.driver import the_command
from orchestrator.run.lines import json_line
from orchestrator.run.options import RunOptions
from orchestrator.store import attempts, open_store
from orchestrator.store.ending import _in_words
from orchestrator.store.names import claim_name
from orchestrator.store.summary import outcomes
from orchestrator.store.trials import looks_at
from orchestrator.tracking.address import tracking_of
from tests.in_process import Command
from tests.sweeps import comparing, plan_of
from tests.written_store import write_attempt, write_end, write_ended

TRAINING = "steps: 40, batch_size: 4, patch_size_px: 16"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NORMSWEEP_STORE", raising=False)
    monkeypatch.delenv("NORMSWEEP_TRACKING", raising=False)
    return plan_of(tmp_path, comparing(seed="0, 1, 2", training=TRAINING), "mine")


def fill(folder: Path, plan: Plan) -> None:
    """A trial in each of five states, and one that has not begun."""
    store = open_store(str(folder))
    claim_name(plan, store)
    done, diverged, failed, running, interrupted, _ = plan.trials
    result = {"val/embedded-test/psnr": 31.5, "loss": float("nan")}
    number = write_attempt(store, done, 40)
    write_end(store, done, number, 40, metrics=result)
    write_ended(store, diverged, outcome="diverged", until=20)
    number = write_attempt(store, failed, 20)
    attempts.write_failure(store, failed.id, number, "other", "boom", final=True)
    attempts.say_alive(store, running.id, write_attempt(store, running, 10))
    write_attempt(store, interrupted, 5)
    number = write_attempt(store, interrupted, 5)
    attempts.write_failure(store, interrupted.id, number, "interrupted", "by 2", final=False)


@pytest.mark.parametrize("verb", ["status", "report", "claims", "sync"])
def test_a_store_that_was_named_and_does_not_exist_is_no_empty_store(
    plan: Plan, command: Command, verb: str
) -> None:
    Path("results").mkdir()
    code, out, err = command(verb, "mine.yaml", "--store", "result")
    assert (code, out) == (2, "")
    assert "--store result: there is no such store" in err
    assert "Did you mean results?" in err
    assert not Path("result").exists()


@pytest.mark.parametrize("verb", ["status", "logs"])
def test_a_name_is_not_looked_for_in_a_store_that_does_not_exist(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    code, _, err = command(verb, "mine", "--store=gone")
    assert (code, "--store gone: there is no such store" in err) == (2, True)


def test_the_variable_names_a_store_as_the_flag_does(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMSWEEP_STORE", "gone")
    code, _, err = command("status", "mine.yaml")
    assert (code, "there is no such store" in err) == (2, True)


def test_a_store_that_is_named_as_the_default_one_counts_as_named(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = command("status", "mine.yaml", "--store", "runs")
    assert (code, "--store runs: there is no such store" in err) == (2, True)
    monkeypatch.setenv("NORMSWEEP_STORE", "runs")
    for verb in ("status", "report"):
        code, _, err = command(verb, "mine.yaml")
        assert (code, "--store runs: there is no such store" in err) == (2, True)


def test_whether_a_store_is_named_is_the_parsers_to_say(
    plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "_given", {})  # which `main` would forget
    monkeypatch.setattr("sys.argv", ["a-program", "--store", "mine"])
    assert cli.app(["status", "mine.yaml"], standalone_mode=False) == 0
    assert "There is no store runs yet" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["a-program"])
    with pytest.raises(UserError, match="--store gone: there is no such store"):
        cli.app(["status", "mine.yaml", "--store", "gone"], standalone_mode=False)


def test_before_the_first_run_there_is_no_store_and_that_is_said(
    plan: Plan, command: Command
) -> None:
    for flags in (["plan"], ["plan", "--store", "new"], ["status"]):
        verb, *rest = flags
        code, out, err = command(verb, "mine.yaml", *rest)
        assert (code, "pending" in out) == (0, True)
        assert f"There is no store {'new' if rest else 'runs'} yet" in err
    Path("runs").mkdir()
    _, _, err = command("status", "mine.yaml")
    assert "no store" not in err


def test_a_sweep_of_the_store_is_answered_by_its_name(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    fill(Path("runs"), plan)
    by_file = command("status", "mine.yaml")
    assert by_file[0] == 0
    assert command("status", "mine") == by_file
    as_json = json.loads(command("status", "mine", "--json")[1])
    for state in ("done", "diverged", "failed", "running", "interrupted", "pending"):
        assert as_json[state] == 1
    assert as_json["total"] == 6


def test_a_trial_of_the_store_is_answered_by_its_id_or_name(plan: Plan, command: Command) -> None:
    fill(Path("runs"), plan)
    failed, interrupted = plan.trials[2], plan.trials[4]
    for given in (failed.id, failed.id[:8], failed.name):
        code, out, _ = command("status", given)
        assert code == 0
        assert out.splitlines()[1] == "other: boom"
        assert f"trial {failed.id}" in out
        assert "failed, attempts 1" in out
    _, out, _ = command("status", interrupted.id, "--json")
    found = json.loads(out)
    assert (found["state"], found["attempts"], found["failure"]["kind"]) == (
        "interrupted",
        2,
        "interrupted",
    )


def test_the_log_of_a_local_sweep_is_not_asked_of_a_cluster(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    fill(Path("runs"), plan)
    code, _, err = command("logs", "mine")
    assert code == 2
    assert "mine is a sweep of the store runs" in err
    assert "kube" not in err.lower()
    assert "`normsweep logs TRIAL`" in err


SUBMIT = ("submit", "mine.yaml", "--store", "s3://bucket/x", "--image", "here:1")


@pytest.mark.parametrize("flags", [(), ("--context", "mine")])
@pytest.mark.parametrize(
    "verb",
    [("list",), ("cancel", "job"), ("status", "job"), ("logs", "job"), ("ui", "job"), SUBMIT],
)
def test_no_cluster_is_a_problem_of_the_machine_in_every_verb(
    plan: Plan,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    verb: tuple[str, ...],
    flags: tuple[str, ...],
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    fill(Path("runs"), plan)
    code, _, err = command(*verb, *flags)
    assert (code, "No cluster" in err) == (3, True), err


def test_a_kubeconfig_that_is_none_is_no_cluster(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("{", "a list: [", "42"):
        Path("config").write_text(text)
        monkeypatch.setenv("KUBECONFIG", "config")
        code, _, err = command("list")
        assert (code, "Traceback" in err) == (3, False), err


@pytest.mark.parametrize(
    ("store", "given", "tracking"),
    [
        ("runs", "", "sqlite:///runs/mlflow.db"),
        ("elsewhere/of mine", "", "sqlite:///elsewhere/of mine/mlflow.db"),
        ("/data/runs", "", "sqlite:////data/runs/mlflow.db"),
        ("file:///data/runs", "", "sqlite:////data/runs/mlflow.db"),
        ("s3://bucket/x", "", "sqlite:///runs/mlflow.db"),
        ("elsewhere", "http://mlflow:5000", "http://mlflow:5000"),
    ],
)
def test_mlflow_is_beside_a_local_store_by_default(store: str, given: str, tracking: str) -> None:
    assert tracking_of(store, given) == tracking


@pytest.mark.parametrize(
    ("given", "store", "tracking", "left"),
    [
        ([], "a b", "", ["--store", "a b", "--tracking", "sqlite:///a b/mlflow.db"]),
        (["--store", "x"], "x", "", ["--tracking", "sqlite:///x/mlflow.db"]),
        (["--store=x", "--tracking=http://m"], "x", "http://m", []),
        ([], "x", "http://me:secret@m:5000", ["--store", "x"]),
        ([], "x", "postgresql://me:secret@db/m", ["--store", "x"]),
    ],
)
def test_the_command_to_continue_names_store_and_mlflow_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, given: list[str], store: str, tracking: str, left: list[str]
) -> None:
    monkeypatch.delenv("NORMSWEEP_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["/opt/normsweep", "run", "my sweep.yaml", *given])
    options = RunOptions(store, tracking_of(store, tracking))
    monkeypatch.setattr(driver, "_settings", options)
    words = shlex.split(the_command())
    assert words == ["/opt/normsweep", "run", "my sweep.yaml", *given, *left]
    monkeypatch.setenv("NORMSWEEP_DATA", "/d 1:s3://b/d")
    assert shlex.split(the_command())[-4:] == ["--data", "/d 1", "--data", "s3://b/d"]


def test_each_state_is_counted_once_and_in_one_way(plan: Plan) -> None:
    for state in State:
        found = counts(plan, dict.fromkeys((trial.id for trial in plan.trials), state))
        numbers = {word: n for word, n in found.items() if word not in ("sweep", "total") and n}
        assert numbers == {"running" if state == State.RETRYING else state: 6}
        said = _in_words(found)
        assert f"6 {next(iter(numbers))}" in said
    assert tally("x", [])["total"] == 0


def test_the_summary_says_how_each_trial_ended(plan: Plan, tmp_path: Path) -> None:
    fill(tmp_path / "runs", plan)
    looks = looks_at(open_store(str(tmp_path / "runs")), [trial.id for trial in plan.trials])
    found = json.loads(json_line({"trials": outcomes(plan, looks)}))["trials"]
    assert [(one["name"], one["state"], one["attempts"], one["failure"]) for one in found] == [
        (plan.trials[0].name, "done", 1, None),
        (plan.trials[1].name, "diverged", 1, None),
        (plan.trials[2].name, "failed", 1, "other"),
        (plan.trials[3].name, "running", 1, None),
        (plan.trials[4].name, "interrupted", 2, "interrupted"),
        (plan.trials[5].name, "pending", 0, None),
    ]
    assert found[0]["step"] == 40
    assert found[0]["metrics"] == {"val/embedded-test/psnr": 31.5, "loss": None}
    assert found[2]["message"] == "boom"
