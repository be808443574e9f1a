"""`check-norm --knobs` answers whatever is written there with a sentence."""

from __future__ import annotations

import re

import pytest

from orchestrator.check_norm import check_norm
from orchestrator.errors import UserError

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
