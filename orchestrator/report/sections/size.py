"""How the growth of the features varies with the size of the network."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.report.blocks import Block, Cell, Column, Table, text
from orchestrator.report.contents import Report
from orchestrator.report.growth_tables import Span, ends, in_column
from orchestrator.report.growths import NormTrend
from orchestrator.report.words import count
from orchestrator.statistics.interval import Interval, Unknown

METHOD = (
    "n counts sizes, since the seeds of one size share a network. Spearman's "
    "\N{GREEK SMALL LETTER RHO} is over the medians of the sizes, where diverged trials rank "
    "highest; its interval is Fisher's z with Bonett and Wright's standard error. p is the share "
    "of the orders of the sizes that are at least as extreme: never below 2/6 with 3 sizes, or "
    "2/24 with 4. The exponent b is that of growth ~ size^b, by least squares on the means of the "
    "sizes, with a 95 % interval for other seeds and sizes. It decides, and p where a trial "
    "diverged."
)


def blocks(report: Report) -> tuple[Block, ...]:
    figures = report.drawn("size")
    if not report.drawn("trace"):
        return ()
    if not report.trends:
        said = "All networks have one size: nothing can be said about growth with size."
        return (text("method", said),)
    if said := _no_trend(report.trends):
        return (*figures, text("method", said))
    columns = (
        *(Column((name,)) for name in (*report.models, "task")),
        *report.label_columns(),
        Column(("against",)),
        *(Column((head,), "right") for head in ("from", "to")),
        Column(("Spearman, 95 % interval",)),
        *(Column((head,), "right") for head in ("p", "exponent")),
        Column(("growth with size",)),
    )
    shown = in_column(_exponent(line) for line in report.trends)
    rows = tuple(_row(report, line, shown) for line in report.trends)
    table = Table(columns, rows, "Growth with size", "since step 0, largest group's mean square")
    return (*figures, table, text("method", METHOD))


def _no_trend(trends: tuple[NormTrend, ...]) -> str:
    """One sentence where no line has a correlation, for want of sizes; else ""."""
    sizes = max(line.trend.rank.n for line in trends)
    if sizes > 2:
        return ""
    if not sizes:
        return "No trial with feature traces has ended, so there is no growth with size."
    return (
        f"{sizes} {'size' if sizes == 1 else 'sizes'} with ended trials: no correlation of growth "
        "with size. It takes 3 sizes, and 4 for an interval. The growth at each size is in the "
        "table above."
    )


def _exponent(line: NormTrend) -> Span:
    found = line.trend.slope
    if isinstance(found, Interval):
        return Span(found.estimate, found.low, found.high)
    return Span(None)


def _row(report: Report, line: NormTrend, shown: Callable[[float | None], str]) -> tuple[Cell, ...]:
    found, between = line.trend, ends(report.frame, line)
    low, high = between or (None, None)
    exponent = _exponent(line)
    p = None if isinstance(found.p, Unknown) else found.p
    left_out = _left_out(len(line.left_out))
    why = (
        found.sentence.removeprefix(f"{found.verdict}: ")
        if isinstance(found.slope, Unknown) and found.rank.rho is not None
        else ""
    )
    return (
        *(Cell(str(line.labels[name]), line.labels[name]) for name in (*report.models, "task")),
        *report.label_cells(line.labels),
        Cell(line.measure, line.measure),
        *(Cell("" if end is None else count(end), end) for end in (low, high)),
        Cell(str(found.rank), found.rank.rho),
        Cell("" if p is None else f"{p:.3f}", p),
        Cell(shown(exponent.value), exponent.value, spread=exponent.within(shown)),
        Cell(
            found.verdict, found.verdict, note="; ".join(part for part in (why, left_out) if part)
        ),
    )


def _left_out(n: int) -> str:
    return f"{n} trial{'s' if n > 1 else ''} left out" if n else ""
