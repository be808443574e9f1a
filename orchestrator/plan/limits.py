"""Limits on a sweep file's text: its size, encoding, nesting and lengths.

They are checked before anything is built from the text, without recursion and without converting
values: YAML's parsers follow nesting on the machine's stack, and Python refuses whole numbers of
thousands of digits with a message of its own. The bounds of single fields are given with the fields
(orchestrator.plan.sweep, trainers.spec, trainers.catalog).
"""

from __future__ import annotations

import codecs
import re
import reprlib
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import UserError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LARGEST_BYTES = 1 << 20
DEEPEST = 16  # a sweep file needs 8: training.initial[0].match.norm[0].knob[0]
MOST_VALUES = 20_000
LONGEST_TEXT = 4_096  # the longest path; names have tighter bounds
LONGEST_KEY = 100
LONGEST_NUMBER = 64  # characters; a float64 needs 24
ENCODINGS = (  # the longer marks first, since UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
NUMBER = re.compile(r"[-+]?(0x[\da-fA-F_]+|[.\d][\d_.:]*([eE][-+]?\d+)?)")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 3


class OverLimit(ValueError):
    """The text exceeds a limit at `line` and `column`, both from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        self.line = line
        self.column = column
        super().__init__(message)


def shown(value: Any) -> str:
    """The `repr` of a value from a file, shortened for a message that people read."""
    return _SHORT.repr(value)


def read_text(path: Path) -> str:
    """A file's text, without the mark that some editors put before UTF-8.

    Raises UserError for a file that is larger than LARGEST_BYTES or not UTF-8 text, and OSError.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST_BYTES + 1)  # a device may have no end
    if len(content) > LARGEST_BYTES:
        raise UserError(f"{path}: is larger than {LARGEST_BYTES} bytes: not a file of ours")
    for mark, encoding in ENCODINGS:
        if content.startswith(mark):
            raise UserError(f"{path}: is {encoding} text: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}:{line}: byte {error.start} is not UTF-8 text: save it as UTF-8"
        ) from error


def check_text(text: str) -> None:
    """Check a file's text.

    Raises OverLimit for the first limit that it exceeds, yaml.YAMLError if it is not YAML.
    """
    if found := CONTROL.search(text):
        before = text[: found.start()].splitlines(keepends=True) or [""]
        if not before[-1].endswith(("\n", "\r")):
            line, column = len(before), len(before[-1]) + 1
        else:
            line, column = len(before) + 1, 1
        code = ord(found.group())
        raise OverLimit(
            f"a control character (U+{code:04X}): the file must be plain text", line, column
        )
    depth = values = 0
    for event in yaml.parse(text, Loader=LOADER):
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise OverLimit(
                    f"is nested {depth} levels deep: at most {DEEPEST} are allowed", line, column
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.NodeEvent):
            values += 1
            if values > MOST_VALUES:
                raise OverLimit(
                    f"more than {MOST_VALUES} values in one file: split it", line, column
                )
            if why := _unwanted(event):
                raise OverLimit(why, line, column)


def _unwanted(event: yaml.NodeEvent) -> str | None:
    """What makes a value wrong in any field; None if nothing does."""
    if (tag := getattr(event, "tag", None)) is not None:
        return f"a tag ({shown(tag)}): write the value plainly"
    if not isinstance(event, yaml.ScalarEvent):
        return None
    text: str = event.value
    if len(text) > LONGEST_NUMBER and not event.style and NUMBER.fullmatch(text):
        return f"a number of {len(text)} characters: at most {LONGEST_NUMBER} are allowed"
    if len(text) > LONGEST_TEXT:
        return f"a text of {len(text)} characters: at most {LONGEST_TEXT} are allowed"
    if found := CONTROL.search(text):  # written as an escape, so not found in the file's text
        return f"a text with a control character (U+{ord(found.group()):04X})"
    return None
