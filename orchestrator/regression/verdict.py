"""A night's verdict as its file has it: what every page, table and notification is made from.

The file holds no times, durations or names of hosts, so that a night which was killed and continued
leaves the same bytes as an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.errors import EnvironmentProblem, TrialsFailed
from orchestrator.plan.gate import Gate
from orchestrator.regression.measured import Judged, Verdict
from orchestrator.report.comparable import RECORDED
from orchestrator.report.words import number
from orchestrator.store.base import Store
from orchestrator.store.records import CHECKSUM, Damaged, Record
from orchestrator.store.trials import Look
from orchestrator.store.verdicts import read_verdict, verdict_bytes
from trainers.journal import encoded

VERSION = 1
EXIT_CODES: dict[Verdict, int] = {
    "pass": 0,
    "fail": TrialsFailed.exit_code,
    "undecided": EnvironmentProblem.exit_code,
}
SENSES = {"at_least": "at least", "at_most": "at most", "equal": "equal to"}
MADE_WITH = ("torch", "commit", "machine")
NUMBERS = ("value", "low", "high", "limit")


@dataclass(frozen=True)
class Question:
    """The verdict on one question. Numbers are in `unit`; `n` counts the seeds behind `value`.

    `level` is the error rate that the look may spend on the alarm, `window` the number of looks
    that it rests on. `trials` are the ids of all trials that the numbers come from.
    """

    gate: str
    norm: str
    task: str
    place: str
    verdict: Verdict
    unit: str
    sense: Literal["at_least", "at_most", "equal"]
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    n: int
    look: int
    level: float
    window: int
    missing: str
    said: str
    left_out: tuple[str, ...]
    trials: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.gate, self.norm, self.task, self.place

    @property
    def name(self) -> str:
        """E.g. `psnr of i_ln, sr_x2, embedded-test w8 d2`."""
        return f"{self.gate} of {', '.join(filter(None, (self.norm, self.task, self.place)))}"

    @property
    def numbers(self) -> str:
        """E.g. `-0.31 dB [-0.35, -0.27], at least -0.1 dB, n = 3`; "" without a value."""
        if self.value is None:
            return ""
        interval = (
            ""
            if self.low is None or self.high is None
            else f" [{self.shown(self.low)}, {self.shown(self.high)}]"
        )
        value = f"{self.shown(self.value)}{self._unit}"
        return ", ".join(filter(None, (f"{value}{interval}", self.bound, f"n = {self.n}")))

    @property
    def bound(self) -> str:
        """E.g. `at least -0.1 dB`; "" without a limit."""
        if self.limit is None:
            return ""
        return f"{SENSES[self.sense]} {self.shown(self.limit)}{self._unit}"

    @property
    def remarks(self) -> str:
        """Everything that is said of it besides its numbers."""
        return "; ".join(filter(None, (self.said, self.missing, *self.left_out)))

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def shown(self, value: float | None) -> str:
        """A number in the form of its unit, without the unit."""
        if value is None:
            return ""
        return f"{value:+.3f}" if self.unit == "dB" and abs(value) < 1e3 else number(value)


@dataclass(frozen=True)
class Night:
    """The verdict of a night on every question, in the order of their names.

    `made_with` are the versions of torch, the commits and the machines that the trials recorded.
    """

    sweep: str
    date: str
    verdict: Verdict
    questions: tuple[Question, ...]
    made_with: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def norms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(question.norm for question in self.questions))

    @property
    def trials(self) -> tuple[str, ...]:
        """The ids of all trials that were judged."""
        return tuple(sorted({trial for question in self.questions for trial in question.trials}))

    def with_verdict(self, verdict: Verdict) -> tuple[Question, ...]:
        return tuple(question for question in self.questions if question.verdict == verdict)

    def of_norm(self, norm: str) -> Verdict | None:
        """The worst verdict on a norm; None if it was not judged."""
        found = {question.verdict for question in self.questions if question.norm == norm}
        return worst(found) if found else None

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        total, failed, open_ = (
            len(self.questions),
            self.with_verdict("fail"),
            self.with_verdict("undecided"),
        )
        if not total:
            return "Undecided: nothing was asked."
        if not failed and not open_:
            return f"Pass: {'all ' * (total > 1)}{total} question{'s' * (total > 1)} passed."
        first = (failed or open_)[0]
        said = first.numbers or first.said or first.missing
        counts = f"{len(failed)} of {total} failed"
        counts = counts if failed else f"{len(open_)} of {total} undecided"
        also = f", {len(open_)} undecided" if failed and open_ else ""
        word = {"pass": "Pass", "fail": "Fail", "undecided": "Undecided"}[self.verdict]
        return f"{word}: {counts}{also}; {first.name}: {said}."


def worst(verdicts: set[Verdict]) -> Verdict:
    """`fail` before `undecided` before `pass`; nothing at all is undecided."""
    order: tuple[Verdict, ...] = ("fail", "undecided", "pass")
    return next((verdict for verdict in order if verdict in verdicts), "undecided")


def night_of(
    sweep: str,
    day: str,
    judged: Sequence[Judged],
    overall: Verdict,
    looks: Mapping[str, Look] | None = None,
) -> Night:
    """A night from the verdicts on its questions; one without any question is never passed.

    `looks`: the trials by id, for what they were made with.
    """
    questions = sorted(map(_question, judged), key=lambda question: question.key)
    verdict = overall if questions else "undecided"
    night = Night(sweep, day, verdict, tuple(questions))
    return replace(night, made_with=_made_with(night.trials, looks or {}))


def _made_with(trials: Iterable[str], looks: Mapping[str, Look]) -> dict[str, tuple[str, ...]]:
    there = [looks[trial] for trial in trials if trial in looks]
    said = {name: {text for look in there for text in RECORDED[name](look)} for name in MADE_WITH}
    return {name: tuple(sorted(texts - {""})) for name, texts in said.items()}


def _question(judged: Judged) -> Question:
    measured = judged.measured
    key, shown = measured.key, measured.shown
    value, low, high, limit = (
        None if number is None else float(number)  # numpy's numbers are not JSON's
        for number in (shown.value, shown.low, shown.high, shown.limit)
    )
    return Question(
        key.gate,
        key.norm,
        key.task,
        key.place,
        judged.verdict,
        shown.unit,
        shown.sense,
        value,
        low,
        high,
        limit,
        len(measured.seeds),
        int(judged.look),
        float(judged.level),
        int(judged.window),
        judged.missing,
        measured.said,
        tuple(measured.left_out),
        tuple(sorted(measured.trials)),
    )


def exit_code(verdict: Verdict, gate: Gate) -> int:
    """0 all passed; 4 a gate failed, or is undecided where that fails; 3 undecided."""
    is_failing = verdict == "undecided" and gate.undecided == "fails"
    return EXIT_CODES["fail" if is_failing else verdict]


def as_json(night: Night) -> Record:
    """The content of a verdict's file, and what `--json` prints, but for the checksum."""
    return {
        "sweep": night.sweep,
        "date": night.date,
        "verdict": night.verdict,
        "gates": [_as_json(question) for question in night.questions],
        "made_with": {name: list(texts) for name, texts in night.made_with.items()},
        "version": VERSION,
    }


def _as_json(question: Question) -> dict[str, Any]:
    fields = {name: getattr(question, name) for name in Question.__dataclass_fields__}
    numbers = {name: encoded(fields[name]) for name in NUMBERS if fields[name] is not None}
    lists = {name: list(fields[name]) for name in ("left_out", "trials")}
    return {**fields, **numbers, **lists}


def from_record(record: Record) -> Night:
    """The night that a verdict's file holds; the record has been checked by its reader."""
    questions = []
    for found in record["gates"]:
        fields = {name: found[name] for name in Question.__dataclass_fields__}
        fields |= {name: float(found[name]) for name in NUMBERS if found[name] is not None}
        fields |= {name: tuple(found[name]) for name in ("left_out", "trials")}
        questions.append(Question(**fields))
    made_with = {name: tuple(texts) for name, texts in record["made_with"].items()}
    return Night(record["sweep"], record["date"], record["verdict"], tuple(questions), made_with)


def file_of(night: Night) -> bytes:
    """The bytes of a verdict's file."""
    return verdict_bytes(as_json(night))


def read_night(store: Store, sweep: str, day: str) -> Night | Damaged | None:
    """A night's verdict; None if there is none."""
    record = read_verdict(store, sweep, day)
    if not isinstance(record, dict):
        return record
    if record["version"] != VERSION:
        key = f"regressions/{sweep}/{day}.json"
        return Damaged(key, f"has version {record['version']}, and this normsweep reads {VERSION}")
    return from_record({name: value for name, value in record.items() if name != CHECKSUM})
