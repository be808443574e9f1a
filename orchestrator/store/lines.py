"""The lines of a journal: their shape, and their one reader.

A store holds millions of values, and pydantic takes microseconds for each. So msgspec decodes the
lines that are as trainers write metrics, and its types state the same shape more narrowly. Events,
and any segment with a line that does not fit, are read by `JOURNAL_LINES`, which alone decides what
is damaged and in which words. Whatever the quick way accepts, the slow one would, with the same
values (decision 22).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from pydantic import ConfigDict, TypeAdapter

from orchestrator.store.records import JOURNAL_LINES, Name, Record, check_shape, nothing_in, parsed

if TYPE_CHECKING:
    import numpy as np  # which only those that read lines need
    from numpy.typing import NDArray

NAMES = TypeAdapter(list[Name], config=ConfigDict(strict=True))

Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
NotFinite: TypeAlias = Literal["nan", "inf", "-inf"]


class Plain(
    msgspec.Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="metrics",
):
    """A line of metrics with nothing else in it."""

    kind: ClassVar[str] = "metrics"
    seq: Whole
    time: Annotated[float, msgspec.Meta(ge=0, lt=1e11)]
    step: Whole
    values: dict[str, float | NotFinite]


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="event"):
    """The place of an event, whose record is read apart."""


class Odd(msgspec.Struct, frozen=True):
    """Any other line, such as an event; `record` is the line as it was written."""

    seq: int
    time: float
    step: int
    kind: str
    values: dict[str, float | str]
    record: Record


Line: TypeAlias = Plain | Odd
PLAIN = msgspec.json.Decoder(Plain | Event)


def checked_lines(content: bytes) -> Sequence[Line]:
    """The lines of a journal's segment. Raises ValueError with words that follow its name."""
    if not content.endswith(b"\n"):
        raise ValueError(
            "ends in the middle of a line" if content.strip(b"\0") else nothing_in(content)
        )
    try:
        return _quickly(content)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return _slowly(content.splitlines())


def _quickly(content: bytes) -> Sequence[Line]:
    ends = _ends_of_objects(content)
    decoded: list[Any] = PLAIN.decode_lines(content)
    if len(decoded) != len(ends):
        raise ValueError("several objects in a line")
    events = [i for i, line in enumerate(decoded) if type(line) is Event]
    records = _slowly([content[ends[i - 1] + 1 if i else 0 : ends[i]] for i in events])
    for i, record in zip(events, records, strict=True):
        decoded[i] = record
    names = set(chain.from_iterable([line.values for line in decoded]))
    NAMES.validate_python(list(names))
    return decoded


def _ends_of_objects(content: bytes) -> NDArray[np.intp]:
    """Where lines end. Raises ValueError unless each begins with `{` and ends with `}`.

    `}`, line feed, `{` stand nowhere within an object, so as many objects as lines are one a line.
    """
    import numpy as np

    if b"\r" in content:
        raise ValueError("a carriage return, which ends lines too")
    text = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    if (
        text[0] != ord("{")
        or (text[ends - 1] != ord("}")).any()
        or (text[ends[:-1] + 1] != ord("{")).any()
    ):
        raise ValueError("a line that is not one object")
    return ends


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
