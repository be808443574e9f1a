"""Commands that messages tell people to enter have the store and the MLflow of this command."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from orchestrator import cli, hints
from orchestrator.plan import Plan
from orchestrator.store import attempts
from orchestrator.store.base import Store
from tests.in_process import Command
from tests.sweeps import comparing, plan_of
from tests.written_store import write_attempt, write_sweep

SOURCES = Path(cli.__file__).parents[1]
VERBS = "|".join(sorted(hints.TAKING[hints.STORE]))
COMMAND = re.compile(rf"normsweep (?:{VERBS})\b")
# Texts of help and of docs, in which a command stands for itself.
OF_HELP = {"help", "description", "epilog"}
DOCS = ("plan/docs.py",)
JOBS = ("cluster/",)  # a job knows its store
# Complete as they are: a file may come from any store, a norm is in none, and the address is there.
NAMED = (
    "Give a file that `normsweep export` wrote",
    "normsweep plan FILE                   # that sweep file",
    "normsweep ui --tracking ",
)


def texts(source: Path) -> Iterator[tuple[int, str]]:
    """The texts that a module may print, with their lines: all but docstrings and help."""
    tree = ast.parse(source.read_text())
    left_out = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg in OF_HELP
        for part in ast.walk(node)
    } | {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in left_out:
            yield node.lineno, node.value


def test_every_command_that_is_printed_is_made_complete() -> None:
    found = [
        f"{source.relative_to(SOURCES)}:{line}: {text}"
        for source in sorted(SOURCES.rglob("*.py"))
        if not source.relative_to(SOURCES).as_posix().startswith((*DOCS, *JOBS))
        for line, text in texts(source)
        if COMMAND.search(text) and not any(named in text for named in NAMED)
    ]
    assert not found, "use orchestrator.hints.hint:\n" + "\n".join(found)


def test_the_verbs_that_take_a_flag_are_those_of_the_command_line() -> None:
    # Another test may have made it already.
    made = typer.main.get_command(cli.app) if isinstance(cli.app, typer.Typer) else cli.app
    for flag, known in hints.TAKING.items():
        taking = {
            name
            for name, verb in made.commands.items()  # type: ignore[attr-defined]
            if any(flag in option.opts for option in verb.params)
        }
        assert taking - {"submit"} == known  # whose store is the pods'


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    training = "steps: 40, batch_size: 4, patch_size_px: 16"
    return plan_of(tmp_path, comparing(training=training), "mine")


def hinted(text: str) -> list[str]:
    return re.findall(r"`(normsweep [^`]*)`", text)


def test_hints_name_the_store_that_the_command_was_given(
    store: Store, plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = plan.trials[0].id
    number = write_attempt(store, plan.trials[0], 20)
    attempts.write_failure(store, trial, number, "other", "boom", final=True)
    for flags, variable in ((["--store", store.uri], ""), ([], store.uri)):
        monkeypatch.setenv("NORMSWEEP_STORE", variable)
        _, said, _ = command("logs", trial, *flags)
        assert hinted(said) == [f"normsweep run FILE --store {store.uri}"]
        _, _, said = command("export", "x", "--to", "x.safetensors", *flags)
        assert hinted(said) == [f"normsweep trials --store {store.uri}"]


def test_where_the_defaults_are_meant_hints_are_short_and_nothing_is_left_of_a_command(
    store: Store,
    plan: Plan,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NORMSWEEP_STORE", raising=False)
    (tmp_path / "runs").mkdir(exist_ok=True)
    write_sweep(store, plan)
    command("trials", "--store", store.uri)
    assert hints.hint("trials") == "normsweep trials"
    _, _, said = command("export", "x", "--to", "x.safetensors")
    assert hinted(said) == ["normsweep trials"]


def test_each_verb_gets_the_flags_that_it_takes_and_no_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hints, "_given", {})
    hints.remember(hints.STORE, "s3://lab/my runs")
    hints.remember(hints.TRACKING, "http://mlflow:5000")
    assert hints.hint("sync FILE") == (
        "normsweep sync FILE --store 's3://lab/my runs' --tracking http://mlflow:5000"
    )
    assert hints.hint("trials") == "normsweep trials --store 's3://lab/my runs'"
    hints.remember(hints.TRACKING, "postgresql://ann:secret@db/mlflow")
    hints.remember(hints.STORE, None)
    assert hints.hint("sync FILE") == "normsweep sync FILE"
