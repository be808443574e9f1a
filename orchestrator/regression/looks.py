"""The ledger of a gate: which numbers were looked at, in what order.

    regressions/<sweep>/looks/0001.json     put once, with a checksum of its content

What a look may spend of the error rate depends on how many there were, so a look is recorded before
it is judged, and never changed. Numbers that were looked at before are no new look: a trial trained
again from unchanged sources, a source that was reverted, or a change that changed no bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from orchestrator.errors import EnvironmentProblem
from orchestrator.regression.measured import Measured
from orchestrator.statistics.interval import Unknown
from orchestrator.statistics.paired import LARGEST, constant
from orchestrator.store.base import Store
from orchestrator.store.journals import READERS
from orchestrator.store.records import (
    Count,
    Damaged,
    Name,
    Ordinal,
    Sha256,
    Shape,
    Text,
    read_record,
    sealed,
)

FILE = re.compile(r"(\d{4,6})\.json")


class AnswerRecord(Shape):
    trials: list[Name]
    setup: Text
    seeds: Annotated[list[Count], Field(min_length=2)]
    values: Annotated[list[float], Field(min_length=2)]
    fail_below: float


class LookRecord(Shape):
    sweep: Text
    number: Ordinal
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    answers: Annotated[dict[Text, AnswerRecord], Field(min_length=1)]
    content_sha256: Sha256


LOOK = TypeAdapter(LookRecord)


@dataclass(frozen=True)
class Answer:
    """What a look found for one question: a value per seed, as in `Measured`."""

    trials: tuple[str, ...]
    setup: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    fail_below: float


@dataclass(frozen=True)
class Look:
    """One look: its number (from 1), its date, and the answers that were new, by `Key.text`."""

    number: int
    date: str
    answers: Mapping[str, Answer]


def read_looks(store: Store, sweep: str) -> tuple[Look, ...]:
    """All looks of a gate, in order. Raises EnvironmentProblem if one is damaged or missing."""
    prefix = _prefix(sweep)
    names = (FILE.fullmatch(key.removeprefix(f"{prefix}/")) for key in store.list(prefix))
    found = sorted(int(name[1]) for name in names if name)
    if found != list(range(1, len(found) + 1)):
        lost = next(number for number in range(1, len(found) + 1) if number not in found)
        raise _unusable(store, f"{_key(sweep, lost)} is missing, and later looks are there")
    with ThreadPoolExecutor(READERS) as readers:
        return tuple(readers.map(lambda number: _read(store, sweep, number), found))


def recorded(store: Store, sweep: str, date: str, measured: Sequence[Measured]) -> tuple[Look, ...]:
    """The ledger with tonight's look, which is added if a question has numbers that are new.

    Questions that cannot be tested (`untested`) are not recorded: they spend nothing. Of several
    nights at once, each adds what the others have not. `date` is YYYY-MM-DD.

    Raises:
        EnvironmentProblem: a look is damaged or missing, or the store fails.
        ValueError: two of `measured` have the same key.
    """
    tested = {one.key.text: one for one in measured if not untested(one)}
    if len({one.key.text for one in measured}) < len(measured):
        raise ValueError("two answers to one question")
    while True:
        looks = read_looks(store, sweep)
        answers = {
            text: _answer(one) for text, one in tested.items() if look_of(one, looks) is None
        }
        if not answers:
            return looks
        look = Look(len(looks) + 1, date, answers)
        # False: another night has just put this number, perhaps with the same answers.
        if store.put_once(_key(sweep, look.number), sealed(_record(sweep, look))):
            return (*looks, look)


def untested(measured: Measured) -> str:
    """Why no test can be made of a question's numbers, or ""."""
    values = measured.values
    if measured.exact is not None:
        return "no noise touches it"
    if isinstance(values, Unknown):
        return values.reason
    infinite = sum(not math.isfinite(value) for value in values)
    if infinite:
        return f"{infinite} of {len(values)} seeds have an infinite value: their mean is no number"
    if not values:
        return "no seed has a number"
    if len(values) == 1:
        return "1 more seed: one alone does not show how much seeds differ"
    if max(map(abs, values)) > LARGEST:
        return f"a value of {max(values, key=abs):.3g} is too large to compute with"
    if constant(np.array(values)):
        return (
            f"all {len(values)} seeds have the value {values[0]:.6g}: nothing shows how much "
            "others would differ"
        )
    return ""


def look_of(measured: Measured, looks: Sequence[Look]) -> Look | None:
    """The first look at which a question had these numbers; None if they are new."""
    for look in looks:
        answer = look.answers.get(measured.key.text)
        if answer is not None and _same(answer, _answer(measured)):
            return look
    return None


def history(text: str, looks: Sequence[Look]) -> NDArray[np.float64]:
    """(K, S) values of the last look's answer to a question, and of earlier ones, oldest first.

    Those of another setup are left out, and those that lack one of the last look's seeds, so that
    every seed has a value at every look.
    """
    last = looks[-1].answers[text]
    rows = []
    for look in looks:
        answer = look.answers.get(text)
        if answer is None or answer.setup != last.setup:
            continue
        values = dict(zip(answer.seeds, answer.values, strict=True))
        if values.keys() >= set(last.seeds):
            rows.append([values[seed] for seed in last.seeds])
    return np.array(rows, dtype=np.float64)


def _answer(measured: Measured) -> Answer:
    values = () if isinstance(measured.values, Unknown) else measured.values
    return Answer(measured.trials, measured.setup, measured.seeds, values, measured.fail_below)


def _same(one: Answer, other: Answer) -> bool:
    """Whether two answers to a question have the same numbers, whatever trials they are from."""
    return (one.setup, one.seeds, one.values, one.fail_below) == (
        other.setup,
        other.seeds,
        other.values,
        other.fail_below,
    )


def _read(store: Store, sweep: str, number: int) -> Look:
    key = _key(sweep, number)
    record = read_record(store, key, LOOK)
    if record is None:
        raise _unusable(store, f"{key} has just been deleted")
    if isinstance(record, Damaged):
        raise _unusable(store, str(record))
    if (record["sweep"], record["number"]) != (sweep, number):
        raise _unusable(store, f"{key} is look {record['number']} of {record['sweep']!r}")
    answers = {
        text: Answer(
            tuple(answer["trials"]),
            answer["setup"],
            tuple(answer["seeds"]),
            tuple(map(float, answer["values"])),
            float(answer["fail_below"]),
        )
        for text, answer in record["answers"].items()
    }
    for text, answer in answers.items():
        if len(answer.seeds) != len(answer.values) or len(set(answer.seeds)) < len(answer.seeds):
            raise _unusable(store, f"{key} has no value per seed for {text!r}")
    return Look(number, record["date"], answers)


def _record(sweep: str, look: Look) -> dict[str, object]:
    answers = {
        text: {
            "trials": list(answer.trials),
            "setup": answer.setup,
            "seeds": list(answer.seeds),
            "values": list(answer.values),
            "fail_below": answer.fail_below,
        }
        for text, answer in look.answers.items()
    }
    return {"sweep": sweep, "number": look.number, "date": look.date, "answers": answers}


def _unusable(store: Store, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{store.uri}: {why}. How much of the error rate is spent cannot be known without it, so "
        "nothing was judged; trials and verdicts are untouched. Put the file back from a backup, "
        "or move the folder `looks` away, which begins the count and the history anew."
    )


def _prefix(sweep: str) -> str:
    return f"regressions/{sweep}/looks"


def _key(sweep: str, number: int) -> str:
    return f"{_prefix(sweep)}/{number:04d}.json"
