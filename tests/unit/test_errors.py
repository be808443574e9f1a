"""Errors other than our bugs form one tree with an exit code each, and errors.py draws it whole."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import orchestrator
import trainers
from orchestrator import errors
from orchestrator.cli.exits import exit_code
from orchestrator.errors import EnvironmentProblem, NormsweepError, UserError
from trainers.data.cache import CacheProblem
from trainers.data.manifests import DatasetProblem

LEFT_OUT = {"orchestrator.__main__", "orchestrator.run.leave"}  # importing them has effects


def every_error() -> set[type[NormsweepError]]:
    for package in (trainers, orchestrator):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name not in LEFT_OUT:
                importlib.import_module(module.name)
    found, waiting = set(), [NormsweepError]
    while waiting:
        found.add(one := waiting.pop())
        waiting += one.__subclasses__()
    return {
        one for one in found if one.__module__.partition(".")[0] in ("trainers", "orchestrator")
    }


def test_the_tree_of_errors_is_drawn_whole() -> None:
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", str(errors.__doc__)))
    assert {one.__name__ for one in every_error()} - drawn == set()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatasetProblem("set5: an image is missing"), 2),
        (CacheProblem("no room"), 3),
        (UserError("a flag"), 2),
        (EnvironmentProblem("the disk"), 3),
    ],
)
def test_an_error_of_any_room_is_a_sentence_and_its_exit_code(
    error: NormsweepError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def call() -> int:
        raise error

    assert exit_code(call) == code
    assert capsys.readouterr().err == f"{error}\n"


def test_no_error_says_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    said = str(DatasetProblem("http://me:word@host refuses very-secret-key"))
    assert said == "http://***@host refuses ***"
