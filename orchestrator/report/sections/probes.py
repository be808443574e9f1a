"""What the probes other than `features` have measured at the end of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.report.blocks import Block, Cell, Column, Group, Table, text
from orchestrator.report.contents import Report
from orchestrator.report.observations import NOT_MEASURED, UNDEFINED, Observed
from orchestrator.report.words import alike, number

LEAD = (
    "Values at the last step, on the fixed probe batch with raw weights: mean ± sample standard "
    "deviation over seeds. A probe says why it has no value."
)


def blocks(report: Report) -> tuple[Block, ...]:
    if not report.observed:
        return ()
    kinds = dict.fromkeys(line.kind for line in report.observed if line.place)
    valued = {line.metric for line in report.observed if line.values}
    whole = [
        line
        for line in report.observed
        if not line.place and (line.kind not in kinds or line.metric in valued)
    ]
    tables = (_table(report, whole),) if whole else ()
    return (text("lead", LEAD), *tables, *(_by_depth(report, kind) for kind in kinds))


def _table(report: Report, found: Sequence[Observed]) -> Table:
    """The scalars of whole networks: a row for each norm and size, a column for each scalar."""
    names = [*report.models, "task"]
    metrics = list(dict.fromkeys(line.metric for line in found))
    lines: dict[tuple[tuple[object, ...], str], dict[str, Observed]] = {}
    for line in report.in_order(found):
        at = (tuple(line.labels.values()), line.size)
        lines.setdefault(at, {})[line.metric] = line
    columns = (
        *(Column((name,)) for name in names),
        *report.label_columns(),
        Column(("size",)),
        *(Column(tuple(metric.split("/", 1)), "right") for metric in metrics),
    )
    shown = {
        metric: alike(
            value for line in found if line.metric == metric for value in (line.mean, line.sd)
        )
        for metric in metrics
    }
    rows = []
    for by_metric in lines.values():
        first = next(iter(by_metric.values()))
        rows.append(
            (
                *(Cell(str(first.labels[name]), first.labels[name]) for name in names),
                *report.label_cells(first.labels),
                report.size_cell(first.size),
                *(
                    cell(by_metric[metric], shown[metric]) if metric in by_metric else Cell("")
                    for metric in metrics
                ),
            )
        )
    return Table(columns, tuple(rows), "Final values", style="comparison")


def cell(line: Observed, shown: Callable[[float | None], str] = number) -> Cell:
    """A value in words: mean, spread, and what is missing."""
    missing = [why for why in line.missing if why != NOT_MEASURED or not line.values]
    seeds = [f"n = {len(line.values)}"] if line.sd is not None or (line.values and missing) else []
    return Cell(
        "" if line.mean is None else shown(line.mean),
        line.mean,
        spread=f"± {shown(line.sd)}" if line.sd is not None else "",
        note=", ".join([*seeds, *missing]),
    )


def _by_depth(report: Report, kind: str) -> Group:
    """The figures of one kind, folded away, and the norms that have none of it."""
    title = f"{kind} by depth"
    figures = [figure for figure in report.drawn("depth") if figure.title.startswith(f"{title}, ")]
    said = dict.fromkeys(
        f"{report.frame.named(report.frame.rows_by, line.labels)}: {why[why.index(UNDEFINED) :]}"
        for line in report.observed
        if line.kind == kind
        for why in line.missing
        if UNDEFINED in why
    )
    notes = (text("list", *said),) if said else ()
    return Group("folded", (*figures, *notes), title)
