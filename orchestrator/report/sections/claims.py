"""The verdict on each claim, and what the undecided ones would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.report.blocks import Block, Cell, Column, Group, Table, text
from orchestrator.report.claims.judging import Judged
from orchestrator.report.claims.parts import Evidence, Part, numbers
from orchestrator.report.contents import Report
from orchestrator.statistics.interval import Unknown

LEAD = (
    "A claim holds if it holds in every part, such as a task or a size, each at 5 %; it fails if "
    "it surely fails in one, the 5 % being shared over its parts. Printed are the estimate and "
    "95 % interval of the part that decides."
)


def blocks(report: Report) -> tuple[Block, ...]:
    here = [judged for judged in report.claims if judged.is_here]
    absent = [judged for judged in report.claims if not judged.is_here]
    made: list[Block] = []
    if here:
        ordered = sorted(here, key=lambda judged: judged.verdict == "undecided")
        made += [text("lead", LEAD), _table(ordered)]
        made.append(Group("folded", (_parts(ordered),), "Part by part"))
    if absent:
        title = f"{len(absent)} claims that are not about this sweep"
        made.append(Group("folded", (_absent(absent),), title))
    return tuple(made)


def _table(found: Sequence[Judged]) -> Table:
    columns = (
        Column(("claim",), is_label=True),
        Column(("verdict",)),
        Column(("estimate, 95 % interval",)),
        Column(("n",), "right"),
        Column(("missing",)),
    )
    return Table(columns, tuple(map(_row, found)))


def _row(judged: Judged) -> tuple[Cell, ...]:
    claim, part = judged.claim, judged.deciding
    where = part.where if part is not None else ""
    if len(judged.parts) > 1:
        where += f" (1 of {len(judged.parts)} parts)"
    estimate, count = _numbers(part)
    missing = "; ".join(judged.missing.sentences)
    return (
        Cell(claim.sentence, claim.id, note=", ".join(filter(None, (claim.id, claim.place)))),
        _verdict(judged.verdict),
        replace(estimate, note=where),
        count,
        Cell(missing, missing),
    )


def _parts(found: Sequence[Judged]) -> Table:
    columns = (
        Column(("claim",), is_label=True),
        Column(("part",)),
        Column(("verdict",)),
        Column(("estimate, 95 % interval",)),
        Column(("n",), "right"),
        Column(("remarks",)),
    )
    rows = []
    for judged in found:
        for part in judged.parts:
            remarks = list(part.left_out)
            if isinstance(part.evidence, Unknown):
                remarks.insert(0, part.evidence.reason)
            said = "; ".join(remarks)
            rows.append(
                (
                    Cell(judged.claim.id, judged.claim.id),
                    Cell(part.where, part.where),
                    _verdict(judged.of_part(part)),
                    *_numbers(part),
                    Cell(said, said),
                )
            )
    return Table(columns, tuple(rows))


def _absent(found: Sequence[Judged]) -> Table:
    columns = (Column(("claim",), is_label=True), Column(("missing",)))
    rows = []
    for judged in found:
        missing = "; ".join(judged.missing.sentences)
        note = ", ".join(filter(None, (judged.claim.id, judged.claim.place)))
        rows.append(
            (Cell(judged.claim.sentence, judged.claim.id, note=note), Cell(missing, missing))
        )
    return Table(columns, tuple(rows))


def _verdict(verdict: str) -> Cell:
    return Cell(verdict, verdict, state=verdict)


def _numbers(part: Part | None) -> tuple[Cell, Cell]:
    found = part.evidence if part is not None else None
    if part is None or not isinstance(found, Evidence):
        return Cell("", None), Cell("", None)
    return (
        Cell(numbers(part.unit, found.estimate, found.low, found.high), found.estimate),
        Cell(found.seeds, found.n, note=found.images),
    )
