"""The verdicts of a gate's nights: `regressions/<sweep>/<YYYY-MM-DD>.json`, each put once.

Beside a verdict, in `regressions/<sweep>/<YYYY-MM-DD>/`, are the files that were made from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from orchestrator.store import records
from orchestrator.store.base import Store
from orchestrator.store.records import (
    CHECKSUM,
    Count,
    Damaged,
    Name,
    Ordinal,
    Record,
    Shape,
    Text,
    Value,
    read_record,
    sealed,
)

VERDICT_FILE = re.compile(r"regressions/([^/]+)/(\d{4}-\d{2}-\d{2})\.json(?=/|$)")
Word = Literal["pass", "fail", "undecided"]


class QuestionRecord(Shape):
    """The verdict on one question: a gate, a norm, and where it is asked."""

    gate: Name
    norm: Name
    task: Text
    place: Text
    verdict: Word
    value: Value | None
    low: Value | None
    high: Value | None
    limit: Value | None
    unit: Text
    sense: Literal["at_least", "at_most", "equal"]
    n: Count
    look: Count
    level: Annotated[float, Field(ge=0, le=1)]
    window: Count
    missing: Text
    said: Text
    left_out: list[Text]
    trials: list[Name]


class VerdictRecord(Shape):
    sweep: Name
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    verdict: Word
    gates: list[QuestionRecord]
    made_with: dict[Name, list[Text]]
    version: Ordinal


VERDICT = TypeAdapter(VerdictRecord)


def verdict_key(sweep: str, day: str) -> str:
    return f"regressions/{sweep}/{day}.json"


def pages_prefix(sweep: str, day: str) -> str:
    """Where the files made from a verdict are."""
    return f"regressions/{sweep}/{day}"


def is_day(text: str) -> bool:
    """Whether a text is a date, as `2026-11-30`."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def days_of(store: Store, sweep: str) -> list[str]:
    """The dates that have a verdict, oldest first; a damaged one counts."""
    found = (VERDICT_FILE.fullmatch(key) for key in store.list(f"regressions/{sweep}"))
    return sorted(match[2] for match in found if match and is_day(match[2]))


def verdict_bytes(record: Mapping[str, Any]) -> bytes:
    """A verdict's file: the same bytes for the same content."""
    return sealed(record)


def put_verdict(store: Store, sweep: str, day: str, content: bytes) -> bool:
    """Keep a night's verdict; False if the date has one already, which stays."""
    return store.put_once(verdict_key(sweep, day), content)


def read_verdict(store: Store, sweep: str, day: str) -> Record | Damaged | None:
    """A night's verdict, if it is whole; None if there is none."""
    key = verdict_key(sweep, day)
    found = read_record(store, key, VERDICT)
    if not isinstance(found, dict):
        return found
    if records.CHECKSUM not in found:
        return Damaged(key, f"lacks its {CHECKSUM}")
    if (found["sweep"], found["date"]) != (sweep, day):
        return Damaged(key, f"is the verdict of {found['sweep']} on {found['date']}")
    return found
