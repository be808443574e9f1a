"""The knobs of a norm from outside the project, read from its source without importing it."""

from __future__ import annotations

import ast

from orchestrator.plan.identity import file_of
from orchestrator.plan.syntax import Unparsable, parsed
from trainers.entries import Entry
from trainers.errors import did_you_mean


def knobs_of(norm: Entry) -> tuple[str, ...] | None:
    """The arguments of the class's `__init__` after `self` and the number of channels.

    None where they cannot be seen: in a source that is missing or no Python, for a class that
    inherits `__init__`, and for one that takes any argument (`**knobs`).
    """
    module, _, name = norm.target.partition(":")
    try:
        body = parsed(file_of(module).read_bytes()).body
    except (OSError, ModuleNotFoundError, Unparsable):
        return None
    inits = [
        line.args
        for found in body
        if isinstance(found, ast.ClassDef) and found.name == name
        for line in found.body
        if isinstance(line, ast.FunctionDef) and line.name == "__init__"
    ]
    if not inits or inits[-1].kwarg is not None or inits[-1].vararg is not None:
        return None
    taken = [*inits[-1].posonlyargs, *inits[-1].args][2:]
    return tuple(argument.arg for argument in (*taken, *inits[-1].kwonlyargs))


def no_such_knob(norm: str, knob: str, known: tuple[str, ...]) -> str:
    """The sentence about a knob that a norm does not have."""
    return (
        f"{norm} has no knob {knob!r}.{did_you_mean(knob, known)} "
        f"Its knobs: {', '.join(known) or 'none'}."
    )
