"""A hash of what a Python source does: its syntax tree's, the same on every Python from 3.11.

It is blind to comments, blank lines, formatting, quotes, parentheses that change nothing,
docstrings and other strings that stand alone, and `pass`. Any other change to the source changes
it. Modules that the source imports are not covered. `ast.dump` would not do: what it leaves out has
changed with Python 3.13.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache

Part = ast.AST | str

# What distinguishes u"" from "", and comments that only type checkers read.
NO_CODE = ("kind", "type_comment", "type_ignores")


class Unparsable(ValueError):
    """A source that is not Python; `line` says where, if that is known."""

    def __init__(self, line: int | None, message: str) -> None:
        self.line = line
        super().__init__(message)


@lru_cache(maxsize=64)  # the id of every trial of a grid asks again
def syntax_sha256(source: bytes) -> str:
    """Hash a file's content, in the encoding that it declares. Raises Unparsable."""
    digest = hashlib.sha256()
    for text in _written(parsed(source)):
        digest.update(text.encode())
    return digest.hexdigest()


def parsed(source: bytes) -> ast.Module:
    """The tree of a file's content, without warnings. Raises Unparsable."""
    if b"\0" in source:  # Python's own error differs between versions, and has no line
        line = source[: source.index(b"\0")].count(b"\n") + 1
        raise Unparsable(line, "a null byte: not a text file")
    try:
        # Warnings, of invalid escapes for example, appear when the module is imported.
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(source)
    except SyntaxError as error:
        raise Unparsable(error.lineno or 1, error.msg) from error
    except (
        RecursionError,
        MemoryError,
    ) as error:  # the parser raises either when its stack is full
        raise Unparsable(None, "an expression or a block is nested too deeply") from error


def _written(tree: ast.AST) -> Iterator[str]:
    """The tree as text, piece by piece.

    This does not recurse, since a tree may be deeper than Python's stack.
    """
    waiting: list[Part] = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, ast.Constant):
            yield f"(Constant {_constant(part.value)})"
        else:
            waiting += reversed([f"({type(part).__name__}", *_fields(part), ")"])


def _fields(node: ast.AST) -> Iterator[Part]:
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            value = [item for item in value if not _does_nothing(item, node)]
        if name in NO_CODE or value is None or value == []:
            continue  # so a field that a later Python adds changes no hash: today's sources lack it
        yield f" {name}="
        yield from _value(value)


def _value(value: object) -> Iterable[Part]:
    if isinstance(value, ast.AST):
        return (value,)
    if isinstance(value, list):
        return ("[", *(part for item in value for part in (*_value(item), ",")), "]")
    return (_constant(value),)


def _does_nothing(item: object, within: ast.AST) -> bool:
    """Whether it is a string that stands alone, `pass`, or an empty piece of an f-string.

    Docstrings are among the strings that stand alone.
    """
    if isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant):
        return isinstance(item.value.value, str)
    if isinstance(within, ast.JoinedStr) and isinstance(item, ast.Constant):
        return item.value == ""  # Python 3.12 alone has such pieces in its trees
    return isinstance(item, ast.Pass)


def _constant(value: object) -> str:
    """Type and exact value, in ASCII.

    Which other characters `repr` escapes depends on Python's version of Unicode.
    """
    # In hexadecimal, since Python limits the digits of an int that it writes in decimal.
    exact = hex(value) if isinstance(value, int) else ascii(value)
    return f"{type(value).__name__}:{exact}"
