"""`check-norm --knobs` answers whatever is written there with a sentence."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.check_norm import check_norm
from orchestrator.errors import UserError
from tests.sweeps import said_of

WRONG = {
    "{1: 2}": "--knobs:1:2: a key must be a plain name",
    "{? [1, 2] : 3}": "a key must be a plain name",
    "{null: 1}": "a key must be a plain name",
    "[]": "--knobs: must be a mapping",
    "text": "--knobs: must be a mapping",
    "": "--knobs: must be a mapping",
    "null": "--knobs: must be a mapping",
    "# nothing": "--knobs: must be a mapping",
    "{eps: 1": "not YAML: while parsing a flow mapping",
    "{a: {b: 1}}": "--knobs: i_ln has no knob 'a'",
    "{unknown: 1}": "--knobs: i_ln has no knob 'unknown'",
    "{ep: 1.0}": "Did you mean 'eps'?",
    "{eps: [1]}": "--knobs: eps must be a number",
    "{eps: null}": "--knobs: eps must be a number",
    "{eps: 1e-5}": "1e-5 is text to YAML, not a number: write 1.0e-5",
    "{eps: 1.0e-5, eps: 1.0e-4}": "the key 'eps' is given twice",
    "{eps: 2020-01-01}": "quote it",
    "!!python/object/apply:os.system [true]": "a tag",
    "&a {eps: *a}": "an alias",
    "{eps: -1.0}": "eps must be above 0",
    "{rescale: yes}": "a bare yes is a boolean to YAML",
}


@pytest.mark.parametrize("knobs", WRONG)
def test_bad_knobs_are_answered_with_a_sentence(knobs: str) -> None:
    with pytest.raises(UserError, match=re.escape(WRONG[knobs])) as refused:
        check_norm("i_ln", knobs)
    assert "pydantic" not in str(refused.value)


@pytest.mark.parametrize("knobs", ["{a: {b: 1}}", "{a: [x]}", "{a: [[1]]}", "{a: null}"])
def test_knobs_of_a_users_norm_are_plain_values(knobs: str) -> None:
    with pytest.raises(UserError, match="--knobs: "):
        check_norm("norms_of_mine:Gain", knobs)


def test_a_bad_name_is_answered_with_a_sentence() -> None:
    with pytest.raises(UserError, match="Did you mean 'i_ln'"):
        check_norm("iln", "{}")


OWN = """
import torch
from torch import nn
from trainers.norms.base import Norm, Normed


class Gain(Norm):
    def __init__(self, dim, start=1.0, *, power=1):
        super().__init__()
        if start <= 0:
            raise ValueError("start must be above 0")
        self.weight = nn.Parameter(torch.full((dim,), start))

    def forward(self, x):
        return Normed(x * self.weight)


class Needy(Gain):
    def __init__(self, dim, gamma):
        super().__init__(dim)


class Open(Gain):
    def __init__(self, dim, **knobs):
        super().__init__(dim, **knobs)
"""
# What is the user's fault and not the norm's: no promise is called broken for it.
OWN_WRONG = {
    ("Gain", "{strat: 2.0}"): "--knobs: own_gain:Gain has no knob 'strat'. Did you mean 'start'?",
    ("Gain", "{dim: 8}"): "--knobs: own_gain:Gain has no knob 'dim'. Its knobs: start, power.",
    ("Gain", "{start: -1.0}"): "cannot have {'start': -1.0}: ValueError: start must be above 0",
    ("Needy", "{}"): "--knobs: own_gain:Needy needs the knob 'gamma'",
    ("Open", "{stat: 1.0}"): "cannot have {'stat': 1.0}: TypeError: ",
}


@pytest.fixture
def own_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_gain.py").write_text(OWN)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for module in [name for name in sys.modules if name.endswith("own_gain")]:
        del sys.modules[module]


@pytest.mark.parametrize(("norm", "knobs"), OWN_WRONG)
def test_a_users_norm_is_not_blamed_for_knobs_it_does_not_have(
    own_gain: Path, capsys: pytest.CaptureFixture[str], norm: str, knobs: str
) -> None:
    with pytest.raises(UserError, match=re.escape(OWN_WRONG[norm, knobs])):
        check_norm(f"own_gain:{norm}", knobs)
    assert "BROKEN" not in capsys.readouterr().out


def test_all_bad_knobs_are_reported_at_once(own_gain: Path) -> None:
    for norm in ("own_gain:Gain", "i_ln"):
        with pytest.raises(UserError) as refused:
            check_norm(norm, "{a: 1, b: 2}")
        assert [" 'a'" in str(refused.value), " 'b'" in str(refused.value)] == [True, True]


def test_planning_sees_the_knobs_of_a_users_norm_without_importing_it(own_gain: Path) -> None:
    (own_gain / "own_gain.py").write_text(OWN + "\nraise RuntimeError('imported')\n")
    text = (
        "axes:\n  backbone: [swinir-tiny]\n  task: [sr_x2]\n"
        "  norm: [{name: 'own_gain:Gain', strat: 2.0, power: 2}, {name: 'own_gain:Open', a: 1}]\n"
    )
    said = said_of(own_gain, text)
    assert "axes.norm[0].strat: own_gain:Gain has no knob 'strat'. Did you mean 'start'?" in said
    assert said.count("bad.yaml:") == 1
