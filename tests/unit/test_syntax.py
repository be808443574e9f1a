"""The parts of a Python source that count as code, for the identity of a norm from outside."""

from __future__ import annotations

import warnings

import pytest

from orchestrator.plan.syntax import Unparsable, syntax_sha256

NORM = '''\
"""A norm."""
import torch
from torch import nn


class Mine(nn.Module):
    """Scales tokens."""

    kinds = ["", b"a", 1.0, 2j, ..., None, True]

    def __init__(self, dim: int, *, eps: float = 1e-5, power) -> None:
        """Of `dim` channels."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.label = f"{dim:>{power}} channels"

    def forward(self, x):
        match x:
            case None:
                pass
            case _ if x.ndim == 3:
                return (x * (self.weight + self.eps)) ** 2
        return {**x, 1: "a"}
'''
# Texts in NORM, and what replaces them.
SAME = {
    "a comment": ("import torch\n", "import torch  # for tensors\n"),
    "blank lines": ("from torch import nn\n", "\n\n\nfrom torch import nn\n\n"),
    "Windows' line ends": ("\n", "\r\n"),
    "tabs": ("    ", "\t"),
    "the module's docstring": ('"""A norm."""\n', ""),
    "a class's docstring": ('"""Scales tokens."""', '"""Scales tokens by a weight."""'),
    "a method's docstring": ('        """Of `dim` channels."""\n', ""),
    "a string under an attribute": (
        "self.eps = eps\n",
        'self.eps = eps\n        """Of the variance."""\n',
    ),
    "quotes": ('""', "''"),
    "quotes of an f-string": ('f"{dim:>{power}} channels"', "f'''{dim:>{power}} channels'''"),
    "a string in parts": ('channels"', 'chan" "nels"'),
    "parentheses": (
        "(x * (self.weight + self.eps)) ** 2",
        "((x * ((self.weight) + self.eps)) ** (2))",
    ),
    "a trailing comma": ("torch.ones(dim)", "torch.ones(\n            dim,\n        )"),
    "a number written otherwise": ("1e-5", "0.000_01"),
    "a prefix of Python 2": ('"a"}', 'u"a"}'),
    "a comment about a type": ("self.eps = eps\n", "self.eps = eps  # type: float\n"),
    "a pass": ("        super()", "        pass\n        super()"),
    "a byte order mark": ('"""A norm', '\ufeff"""A norm'),
}
OTHER = {
    "a number": ("1e-5", "1e-6"),
    "a number's type": ("1.0,", "1,"),
    "a truth for a number": ("True]", "1]"),
    "an imaginary number": ("2j", "2.0"),
    "bytes for text": ('b"a"', '"a"'),
    "an empty string": ('""', '" "'),
    "an ellipsis": ("..., None", "None, None"),
    "None among others": ("..., None", "..., 0"),
    "an order": ("..., None", "None, ..."),
    "an attribute": ("self.eps)", "self.epsilon)"),
    "an operator": ("self.weight + self.eps", "self.weight - self.eps"),
    "a comparison": ("x.ndim == 3", "x.ndim >= 3"),
    "precedence": ("(x * (self.weight + self.eps))", "(x * self.weight + self.eps)"),
    "a default": ("eps: float = 1e-5, power", "eps: float, power"),
    "whose default it is": ("eps: float = 1e-5, power", "eps: float, power=1e-5"),
    "what is given by keyword": (
        "dim: int, *, eps: float = 1e-5, power",
        "dim: int, power, *, eps: float = 1e-5",
    ),
    "an annotation": ("dim: int,", "dim: float,"),
    "a base": ("class Mine(nn.Module)", "class Mine(nn.Identity)"),
    "a name": ("class Mine", "class Ours"),
    "an import": ("from torch import nn", "from torch import fx as nn"),
    "a format": (">{power}", "<{power}"),
    "a pattern": ("case None:", "case True:"),
    "a key for a mapping": ('{**x, 1: "a"}', '{x: 1, 1: "a"}'),
    "a statement less": ("        super().__init__()\n", ""),
    "a statement in another block": ("        return {**x", "                return {**x"),
    "a decorator": ("    def forward", "    @torch.no_grad()\n    def forward"),
    "an f-string for text": ('"a"}', 'f"{1}a"}'),
}


def changed(change: tuple[str, str]) -> bytes:
    old, new = change
    assert old in NORM
    return NORM.replace(old, new).encode()


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_the_identity_is_blind_to(change: tuple[str, str]) -> None:
    assert changed(change) != NORM.encode()
    assert syntax_sha256(changed(change)) == syntax_sha256(NORM.encode())


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_the_identity_sees(change: tuple[str, str]) -> None:
    assert syntax_sha256(changed(change)) != syntax_sha256(NORM.encode())


def test_every_change_of_code_gives_another_identity() -> None:
    assert len({syntax_sha256(changed(change)) for change in OTHER.values()}) == len(OTHER)


def test_the_encoding_that_a_source_declares_is_used() -> None:
    latin = "# coding: latin-1\nunit = 'µ'\n".encode("latin-1")
    assert syntax_sha256(latin) == syntax_sha256("unit = 'µ'\n".encode())
    assert syntax_sha256(latin) != syntax_sha256(b"unit = '\\xb6'\n")


def test_the_identity_of_a_source_never_changes() -> None:
    """It is part of trials' ids, so it is the same on every Python from 3.11."""
    assert (
        syntax_sha256(NORM.encode())
        == "9dfbd1ead90f53be15da8e1e2cb87a1479cc8897e15be7579775571bdb1244a7"
    )
    assert syntax_sha256(b"") == "b5999633d806a4425694a2e389d4c42e99949638e4f3c7a2b793b0073e37c634"


def test_a_source_with_an_invalid_escape_is_read_without_a_warning() -> None:
    with warnings.catch_warnings(action="error"):
        assert syntax_sha256(b"x = '\\d'") == syntax_sha256(b"x = '\\\\d'")


def test_a_deep_source_is_read_or_refused_but_never_recursed_into() -> None:
    deep = "x = a" + ".b" * 2500
    assert syntax_sha256(deep.encode()) != syntax_sha256((deep + ".b").encode())
    assert syntax_sha256(b"x = 0x" + b"f" * 9000) != syntax_sha256(b"x = 0x" + b"f" * 9001)


UNPARSABLE = {
    "a syntax error": (b"x = 1\ny = = 2\n", 2, "invalid syntax"),
    "an indentation": (b"def f():\nreturn 1\n", 2, "expected an indented block"),
    "an unclosed bracket": (b"x = (1,\n\n", 1, "never closed"),
    "a null byte": (b"x = 1\n\ny = \0\n", 3, "null byte"),
    "an unknown encoding": (b"# coding: none-such\nx = 1\n", 1, "unknown encoding: none-such"),
    "another encoding than UTF-8": (b"x = 1\ny = '\xff'\n", 2, "can't decode byte 0xff"),
    "too many parentheses": (b"x = " + b"(" * 1000 + b")" * 1000, 1, "too many nested parentheses"),
    "too deep a tree": (b"x = a" + b"()" * 100_000, None, "nested too deeply"),
    "too deep for the parser": (b"x = " + b"-" * 100_000 + b"1", None, "nested too deeply"),
    "too many digits": (b"x = " + b"9" * 9000, 1, "4300 digits"),
}


@pytest.mark.parametrize(("source", "line", "said"), UNPARSABLE.values(), ids=UNPARSABLE)
def test_what_is_not_python_is_refused_with_its_line(
    source: bytes, line: int | None, said: str
) -> None:
    with pytest.raises(Unparsable, match=said) as caught:
        syntax_sha256(source)
    assert caught.value.line == line
