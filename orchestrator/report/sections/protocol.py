"""How the trials were trained and scored, where they ran, and what each norm changes."""

from __future__ import annotations

from collections import Counter

from orchestrator.report import protocol
from orchestrator.report.blocks import Block, Cell, Column, Group, Table, text
from orchestrator.report.contents import Report
from orchestrator.report.words import listed
from trainers.catalog import METRICS

SCORED = (
    "EMA weights; output clamped to [0, 1], rounded to 8 bits, then "
    f"{listed(entry.facts['gives'] for entry in METRICS)}; "
    "whole images, no tiling; mean over images."
)
OBSERVED = (
    "Features: fixed probe batch, evaluation mode, raw weights, accumulated in float32 or better.",
    "If several attempts recorded the same metric and step, the first counts.",
)


def blocks(report: Report) -> tuple[Block, ...]:
    plan, recorded = report.plan, report.frame.recorded
    facts = [
        (Cell(name, name), Cell(value, value)) for name, value in protocol.settings(plan, recorded)
    ]
    edited = [f"{line}." for line in protocol.edited(plan, recorded)]
    scored = [f"{line[0].upper()}{line[1:]}." for line in protocol.evaluation(plan, recorded)]
    training: list[Block] = [Table((Column(("",)), Column(("",))), tuple(facts), style="facts")]
    training += [text("list", *edited)] if edited else []
    evaluation = text("list", SCORED, *scored, *OBSERVED)
    sides = (
        Group("titled", tuple(training), "Training"),
        Group("titled", (evaluation,), "Evaluation"),
    )
    machines = _machines(report)
    return Group("columns", sides), _norms(report), *([machines] if machines.rows else [])


def _norms(report: Report) -> Table:
    """Every place that a norm touches."""
    heads = ("knobs", "after the embedding", "before the head", "inputs")
    rows = (
        (
            report.norm_cell(norm["name"]),
            *(Cell(norm[field], norm[field]) for field in ("knobs", "embedding", "end", "stdnorm")),
        )
        for norm in protocol.norms(report.plan, report.frame.recorded)
    )
    columns = (Column(("norm",), is_label=True), *(Column((head,)) for head in heads))
    return Table(
        columns, tuple(rows), "What each norm changes", "besides the norms inside the blocks"
    )


def _machines(report: Report) -> Table:
    """Hosts, commits and versions of the attempts, each with the number of attempts."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for attempt in report.frame.attempts:
        versions = attempt.get("versions") or {}
        listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        counts[
            str(attempt.get("host", "unknown")), str(attempt.get("commit") or "unknown"), listed
        ] += 1
    rows = (
        (
            Cell(host, host),
            Cell(commit[:12], commit, is_code=True),
            Cell(versions, versions),
            Cell(str(n), n),
        )
        for (host, commit, versions), n in counts.items()
    )
    columns = (
        Column(("host",), is_label=True),
        Column(("commit",)),
        Column(("versions",)),
        Column(("attempts",), "right"),
    )
    return Table(columns, tuple(rows), "Where it ran")
