"""The findings that stand out, judged by the numbers of the tables alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.states import State
from orchestrator.report import difference_tables, tables
from orchestrator.report.blocks import Block, text
from orchestrator.report.contents import Report
from orchestrator.report.families import Difference
from orchestrator.report.frame import keyed, records, where
from orchestrator.report.words import listed, number
from orchestrator.statistics.interval import Interval, Unknown


def blocks(report: Report) -> tuple[Block, ...]:
    found = _findings(report)
    return (text("list", *found),) if found else ()


def _findings(report: Report) -> list[str]:
    """A sentence for everything that stands out."""
    found = []
    for task in report.frame.names("task"):
        for dataset in report.frame.evaluation_sets():
            found += _told(report, tables.Column(task, dataset, "psnr"))
        for labels, rows in keyed(
            where(report.divergence, {"task": task}), *report.frame.panels_by
        ):
            found += _spread(report.frame.named(report.frame.panels_by, labels), rows)
    gone = records(report.frame.trials[report.frame.trials["state"] == State.DIVERGED])
    if gone:
        names = [f"{row['name']} (step {row['step']:.0f})" for row in gone[:5]]
        more = [f"and {len(gone) - 5} more"] if len(gone) > 5 else []
        found.append(f"Diverged: {', '.join(names + more)}.")
    return found


def _spread(name: str, divergence: pd.DataFrame) -> list[str]:
    """The range of the features in one panel, if it has several norms."""
    rows = records(divergence[divergence["value"].map(math.isfinite)])
    if len({row[COMPARED] for row in rows}) < 2:
        return []
    low, top = (choose(rows, key=lambda row: row["value"]) for choose in (min, max))
    where_low, where_top = (f"({row[COMPARED]}, {row['size']})" for row in (low, top))
    return [
        f"{name}: at step {top['step']} the largest group's mean square ranges from "
        f"{number(low['value'])} {where_low} to {number(top['value'])} {where_top}."
    ]


def _told(report: Report, column: tables.Column) -> list[str]:
    """The norms that differ from the baseline by PSNR, at which sizes and by how much.

    Where none does, the differences that would have been found.
    """
    found = [
        (", ".join([family.size, *recipe]), norm, one)
        for family in report.families
        if family.is_plain
        for ((task, name, metric, *recipe), norm), one in family.differences.items()
        if (task, name, metric) == (column.task, column.dataset, column.metric)
    ]
    judged = [(at, norm, one) for at, norm, one in found if one.p is not None]
    base = report.families[0].baseline if report.families else ""
    said = []
    for norm in dict.fromkeys(norm for _, norm, _ in judged):
        own = [(at, one) for at, of, one in judged if of == norm]
        for word, sign in (("above", 1), ("below", -1)):
            told = [(at, one) for at, one in own if one.is_told and sign * _mean(one) > 0]
            if told:
                said.append(f"{norm} is {word} {base} {_where(told, len(own), column)}")
    if open_ones := [one for _, _, one in judged if not one.is_told]:
        found_by = _detectable(open_ones, column)
        said.append(
            f"other differences are undecided{found_by}"
            if said
            else f"no norm can be told from {base}{found_by}"
        )
    said += _undecided([one for one in found if one[2].p is None and one[2].both_scored])
    return [f"{column.task}, PSNR on {column.dataset}: {'; '.join(said)}."] if said else []


def _undecided(found: Sequence[tuple[str, str, Difference]]) -> list[str]:
    """`i_ln at w24 d2: undecided, one seed`; the norms and sizes of each reason together."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for at, norm, one in found:
        reason = difference_tables.undecided(one)
        reasons.setdefault(reason, {}).setdefault(norm, []).append(at)
    return [
        f"{', '.join(f'{norm} at {listed(sizes)}' for norm, sizes in norms.items())}: {reason}"
        for reason, norms in reasons.items()
    ]


def _mean(one: Difference) -> float:
    found = one.contrast.other_seeds
    assert isinstance(found, Interval)
    return found.estimate


def _where(told: Sequence[tuple[str, Difference]], total: int, column: tables.Column) -> str:
    """`at w24 d2 by 0.30 dB [+0.22, +0.38]`, or at how many of the sizes and by how much."""
    if len(told) <= 2:
        parts = []
        for at, one in told:
            found = one.contrast.other_seeds
            assert isinstance(found, Interval)
            interval = difference_tables.bounds(column, found)
            parts.append(f"at {at} by {column.text(abs(found.estimate))} dB {interval}")
        return " and ".join(parts)
    sizes = [abs(_mean(one)) for _, one in told]
    return (
        f"at {len(told)} of {total} sizes "
        f"(by {column.text(min(sizes))} to {column.text(max(sizes))} dB)"
    )


def _detectable(ones: Sequence[Difference], column: tables.Column) -> str:
    seen = [
        one.contrast.detectable for one in ones if not isinstance(one.contrast.detectable, Unknown)
    ]
    if not seen:
        return ""
    low, high = column.text(min(seen)), column.text(max(seen))
    span = low if low == high else f"{low} to {high}"
    return f" (one of {span} dB would be found in 80 % of cases)"
