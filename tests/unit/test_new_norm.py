"""`normsweep new-norm`: a norm that keeps every promise, and files that are never overwritten."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.new_norm import new_norm
from orchestrator.plan import load_plan
from tests.sweeps import comparing
from trainers import own
from trainers.catalog import NORMS
from trainers.choice import Choice
from trainers.conformance import PROMISES, cases


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(own.FOLDERS, str(tmp_path))
    return tmp_path


def test_the_new_norm_passes_check_norm_and_its_own_test(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_norm("half_norm", here)
    name, knobs = NORMS.resolve("half_norm:HalfNorm", {})
    for promise in PROMISES.values():  # in the first network; the command takes all of them
        promise(next(cases(Choice(name=name, knobs=knobs))))
    assert len((here / "half_norm.py").read_text().splitlines()) <= 20
    monkeypatch.syspath_prepend(str(here))
    tests = [f for n, f in runpy.run_path(str(here / "test_half_norm.py")).items() if "test_" in n]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_line_that_it_prints_is_planned(here: Path) -> None:
    said = new_norm("third_norm", here)
    line = next(line.strip() for line in said.splitlines() if "norm: [" in line)
    text = comparing().replace("norm: [layer_norm, i_ln]", line)
    assert line in text
    (here / "mine.yaml").write_text(text)
    labels = [trial.axes["norm"] for trial in load_plan(here / "mine.yaml").trials]
    assert labels == ["layer_norm", "third_norm:ThirdNorm"]
    assert "normsweep check-norm third_norm:ThirdNorm" in said
    assert "normsweep plan FILE" in said


@pytest.mark.parametrize("file", ["half_norm.py", "test_half_norm.py", "half_norm/__init__.py"])
def test_nothing_is_overwritten(here: Path, file: str) -> None:
    (here / file).parent.mkdir(exist_ok=True)
    (here / file).write_text("mine")
    with pytest.raises(UserError, match=r"half_norm\S* exists in .*, and is not overwritten"):
        new_norm("half_norm", here)
    assert [path for path in here.rglob("*") if path.is_file()] == [here / file]
    assert (here / file).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((bad, "not a module's name") for bad in ("", "Half", "2d", "a-b", "../a", "a.b", "a__b")),
        *(("class", "not a module's name"), ("a" * 61, "not a module's name")),
        *(("i_ln", "built in"), ("copy", "is installed"), ("torch", "is installed")),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(here: Path, name: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        new_norm(name, here)
    assert list(here.iterdir()) == []
