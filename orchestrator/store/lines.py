"""The lines of a journal: their shape, and their one reader.

A store holds millions of values, and pydantic takes microseconds for each. So msgspec decodes the
lines that are as trainers write metrics, and its types state the same shape more narrowly. What
does not fit them is read by `JOURNAL_LINES`, which alone decides what is damaged and in which
words. Whatever the quick way accepts, the slow one would, with the same values (decision 22).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Literal, TypeAlias

import msgspec
from pydantic import ConfigDict, TypeAdapter

from orchestrator.store.records import JOURNAL_LINES, Name, Record, check_shape, nothing_in, parsed

NAMES = TypeAdapter(list[Name], config=ConfigDict(strict=True))

Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
NotFinite: TypeAlias = Literal["nan", "inf", "-inf"]


class Plain(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A line of metrics with nothing else in it."""

    seq: Whole
    time: Annotated[float, msgspec.Meta(ge=0, lt=1e11)]
    step: Whole
    kind: Literal["metrics"]
    values: dict[str, float | NotFinite]


class Odd(msgspec.Struct, frozen=True):
    """Any other line, such as an event; `record` is the line as it was written."""

    seq: int
    time: float
    step: int
    kind: str
    values: dict[str, float | str]
    record: Record


Line: TypeAlias = Plain | Odd
PLAIN = msgspec.json.Decoder(Plain)


def checked_lines(content: bytes) -> Sequence[Line]:
    """The lines of a journal's segment. Raises ValueError with words that follow its name."""
    if not content.endswith(b"\n"):
        raise ValueError(
            "ends in the middle of a line" if content.strip(b"\0") else nothing_in(content)
        )
    texts = content.splitlines()
    try:
        return _quickly(texts)
    except ValueError:  # its words would count the odd lines alone
        return _slowly(texts)


def _quickly(texts: Sequence[bytes]) -> Sequence[Line]:
    lines: list[Line] = []
    odd: dict[int, bytes] = {}
    for text in texts:
        try:
            lines.append(PLAIN.decode(text))
        except (msgspec.DecodeError, RecursionError):
            odd[len(lines) + len(odd)] = text
    names = set(chain.from_iterable([line.values for line in lines]))
    NAMES.validate_python(list(names))
    for i, line in zip(odd, _slowly(list(odd.values())), strict=True):
        lines.insert(i, line)
    return lines


def _slowly(texts: Sequence[bytes]) -> list[Odd]:
    records = [parsed(text) for text in texts]
    check_shape(records, JOURNAL_LINES)
    return [
        Odd(
            record["seq"],
            float(record["time"]),
            record["step"],
            record["kind"],
            {
                name: value if isinstance(value, str) else float(value)
                for name, value in record.get("values", {}).items()
            },
            record,
        )
        for record in records
    ]
