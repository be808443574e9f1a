"""A night as a page, as Markdown and as CSV, made from its verdict by the report's templates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator.plan import Plan
from orchestrator.plan.axes import COMPARED
from orchestrator.plan.gate import GatePlan
from orchestrator.plan.gate_words import questions_of
from orchestrator.regression.changes import changes
from orchestrator.regression.history import MOST_NIGHTS, History
from orchestrator.regression.measured import Verdict
from orchestrator.regression.verdict import Night, Question, file_of
from orchestrator.report.as_csv import as_csv
from orchestrator.report.blocks import Block, Cell, Column, Section, Table, text
from orchestrator.report.page import template

ORDER: tuple[Verdict, ...] = ("fail", "undecided", "pass")
BESIDE = ("report.md", "verdict.csv", "verdict.json", "junit.xml")
SHORT = {"pass": "pass", "fail": "fail", "undecided": "?"}  # in the narrow columns of the history
HOW = (
    "A gate passes if the value is surely within its limit, each night with an error of 2.5 %. "
    "It fails if it does not pass and its value is surely worse than the baseline's, or beyond a "
    "bound; the chance of any false alarm is kept over all looks. Otherwise it is undecided. A "
    "look is a set of newly trained trials: a night without any spends nothing."
)


def render(plan: Plan, gate: GatePlan, night: Night, history: History) -> dict[str, str]:
    """The text of each file by name but junit.xml; index.html is the last one.

    `history` has the nights up to this one and perhaps later ones, which are left out.
    """
    nights = tuple(one for one in history.nights if one.date < night.date)
    before = nights[0] if nights else None
    until = History(history.sweep, (night, *nights)[:MOST_NIGHTS])
    made = _sections(plan, gate, night, before, until)
    counts = {verdict: len(night.with_verdict(verdict)) for verdict in ORDER}
    context = {
        "sweep": night.sweep,
        "question": plan.question,
        "answer": night.sentence,
        "date": night.date,
        "verdict": night.verdict,
        "counts": {verdict: count for verdict, count in counts.items() if count},
        "trials": len(night.trials),
        "file": plan.path.name,
        "sections": made,
        "beside": BESIDE,
    }
    here = Path(__file__).parent
    return {
        "verdict.json": file_of(night).decode(),
        "verdict.csv": as_csv(_as_frame(night)),
        "report.md": template("night.md.j2", here).render(context),
        "index.html": template("night.html.j2", here).render(context),
    }


def _sections(
    plan: Plan, gate: GatePlan, night: Night, before: Night | None, history: History
) -> tuple[Section, ...]:
    norm_of = {trial.id: str(trial.axes[COMPARED]) for trial in plan.trials}
    since = "What changed" if before is None else f"What changed since {before.date}"
    short = text("list", *changes(night, before, norm_of))
    return (
        Section("short", since, "", (short,)),
        Section("questions", "Questions", "Questions", _questions(night)),
        Section("history", "History", "History", (_history(history),)),
        Section("gate", "The gate", "The gate", _gate(gate, night)),
    )


# --- questions ------------------------------------------------------------------------------------


def _questions(night: Night) -> tuple[Block, ...]:
    columns = (
        Column(("norm",), is_label=True),
        Column(("gate",)),
        Column(("task",)),
        Column(("place",)),
        Column(("verdict",)),
        Column(("value, 95 % interval",), "right"),
        Column(("limit",), "right"),
        Column(("n",), "right"),
        Column(("look",), "right"),
        Column(("missing, remarks",)),
    )
    rows = [_row(question) for verdict in ORDER for question in night.with_verdict(verdict)]
    return (Table(columns, tuple(rows)),) if rows else (text("lead", night.sentence),)


def _row(question: Question) -> tuple[Cell, ...]:
    value = f"{question.shown(question.value)} {question.unit}".strip()
    has_interval = question.low is not None and question.high is not None
    spread = f"[{question.shown(question.low)}, {question.shown(question.high)}]"
    window = f"over the last {question.window} looks" if question.window > 1 else ""
    return (
        Cell(question.norm, question.norm),
        Cell(question.gate, question.gate),
        Cell(question.task, question.task),
        Cell(question.place, question.place),
        Cell(question.verdict, question.verdict, state=question.verdict),
        Cell("" if question.value is None else value, question.value, spread * has_interval),
        Cell(question.bound, question.limit),
        Cell(str(question.n), question.n),
        Cell(str(question.look) if question.look else "", question.look, note=window),
        Cell(question.remarks, question.remarks),
    )


def _as_frame(night: Night) -> pd.DataFrame:
    """One row for each question, with every field of the verdict's file."""
    fields = list(Question.__dataclass_fields__)
    rows = [{name: _field(getattr(one, name)) for name in fields} for one in night.questions]
    table = pd.DataFrame(rows, columns=fields, dtype=object)
    return table.where(table.notna(), None)


def _field(value: Any) -> Any:
    return "; ".join(value) if isinstance(value, tuple) else value


# --- history --------------------------------------------------------------------------------------


def _history(history: History) -> Table:
    days = [night.date.rsplit("-", 1) for night in history.nights]
    columns = (
        Column(("norm",), is_label=True),
        *(Column((month, day), "right") for month, day in days),
    )
    rows = [
        _verdicts(norm, [night.of_norm(norm) for night in history.nights]) for norm in history.norms
    ]
    rows.append(_verdicts("whole night", [night.verdict for night in history.nights]))
    return Table(
        columns,
        tuple(rows),
        "The worst verdict on each norm, newest night first",
        f"at most {MOST_NIGHTS} nights; ? is undecided",
    )


def _verdicts(name: str, verdicts: Sequence[Verdict | None]) -> tuple[Cell, ...]:
    cells = (
        Cell("\N{EN DASH}") if verdict is None else Cell(SHORT[verdict], verdict, state=verdict)
        for verdict in verdicts
    )
    return Cell(name, name), *cells


# --- the gate -------------------------------------------------------------------------------------


def _gate(gate: GatePlan, night: Night) -> tuple[Block, ...]:
    against = gate.norm or str((gate.file or gate.sweep or Path()).name)
    rows = {
        "Compared with": against,
        "Candidates": ", ".join(gate.candidates),
        "Asked": "; ".join(questions_of(gate.asked)),
        "Error rate": f"{gate.asked.error_rate:g} for any false alarm in {gate.asked.looks} looks",
        "Undecided": gate.asked.undecided,
        **{f"Trained with ({name})": ", ".join(texts) for name, texts in _made_with(night)},
    }
    facts = tuple((Cell(name, name), Cell(value, value)) for name, value in rows.items())
    return (
        text("lead", HOW),
        Table((Column(("field",)), Column(("value",))), facts, style="facts"),
    )


def _made_with(night: Night) -> list[tuple[str, tuple[str, ...]]]:
    return [(name, texts) for name, texts in sorted(night.made_with.items()) if texts]
