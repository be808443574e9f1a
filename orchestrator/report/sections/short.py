"""The findings that stand out, judged by the numbers of the tables alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.states import State
from orchestrator.report import tables
from orchestrator.report.blocks import Block, text
from orchestrator.report.contents import Report
from orchestrator.report.frame import keyed, records, where
from orchestrator.report.growth_tables import factor, times
from orchestrator.report.growths import NormGrowth


def blocks(report: Report) -> tuple[Block, ...]:
    found = _findings(report)
    return (text("list", *found),) if found else ()


def _findings(report: Report) -> list[str]:
    """A sentence for everything that stands out."""
    found = []
    for task in report.frame.names("task"):
        for dataset in report.frame.evaluation_sets():
            found += _winners(report, tables.Column(task, dataset, "psnr"))
        found += _growths(report, task)
    gone = records(report.frame.trials[report.frame.trials["state"] == State.DIVERGED])
    if gone:
        names = [f"{row['name']} (step {row['step']:.0f})" for row in gone[:5]]
        more = [f"and {len(gone) - 5} more"] if len(gone) > 5 else []
        found.append(f"Diverged: {', '.join(names + more)}.")
    return found


def _growths(report: Report, task: str) -> list[str]:
    """What the features of each norm have done since step 0, a sentence for each panel."""
    frame, said = report.frame, []
    if not report.drawn("trace"):
        return []
    by = [*frame.tables_by, *frame.panels_by]
    for labels, _ in keyed(where(frame.trials, {"task": task}), *by):
        lines = [line for line in report.growths if labels.items() <= line.labels.items()]
        of_norms = (
            _growth(norm, [line for line in lines if line.labels[COMPARED] == norm])
            for norm in dict.fromkeys(line.labels[COMPARED] for line in lines)
        )
        name = frame.named(by if len(frame.names("backbone")) > 1 else frame.panels_by, labels)
        said.append(f"{name}: growth of the features since step 0: {'; '.join(of_norms)}.")
    return said


def _growth(norm: str, lines: Sequence[NormGrowth]) -> str:
    """`i_ln bounded at 3 of 4 sizes, undecided at 1 (× 0.7 to × 0.9)`."""
    verdicts = Counter(line.growth.verdict for line in lines).most_common()
    if len(verdicts) == 1:
        words = verdicts[0][0] + _at_all(len(lines))
    else:
        (first, most), *others = verdicts
        words = f"{first} at {most} of {len(lines)} sizes"
        words += "".join(f", {verdict} at {n}" for verdict, n in others)
    factors = [found for line in lines if (found := factor(line.growth).value) is not None]
    if not factors:
        return f"{norm} {words}"
    low, high = times(min(factors)), times(max(factors))
    return f"{norm} {words} ({low if low == high else f'{low} to {high}'})"


def _at_all(num_sizes: int) -> str:
    if num_sizes == 1:
        return ""
    return " at both sizes" if num_sizes == 2 else f" at all {num_sizes} sizes"


def _winners(report: Report, column: tables.Column) -> list[str]:
    """The norms with the highest values of a column, at how many sizes and by how much."""
    leads: dict[str, list[tuple[float, str]]] = {}
    total = 0
    for table in report.comparisons:
        i = table.columns.index(column)
        ranked = sorted(
            ((row.cells[i].mean, row.name) for row in table.rows if row.cells[i].mean is not None),
            reverse=True,
        )
        if len(ranked) > 1:
            total += 1
            (best, norm), (second, other) = ranked[:2]
            assert best is not None
            assert second is not None
            where = f"{table.size} ({column.text(best)} dB, {best - second:+.2f} on {other})"
            leads.setdefault(norm, []).append((best - second, where))
    if not leads:
        return []
    if total <= 2:
        said = [
            f"{norm} at {' and '.join(where for _, where in lead)}" for norm, lead in leads.items()
        ]
    else:
        said = [
            f"{norm} at {len(lead)} of {total} sizes "
            f"(by {min(lead)[0]:.2f} to {max(lead)[0]:.2f} dB)"
            for norm, lead in leads.items()
        ]
    return [f"{column.task}: highest PSNR on {column.dataset}: {'; '.join(said)}."]
