"""Differences from the baseline as blocks: a table for each family, and what they leave out."""

from __future__ import annotations

from orchestrator.plan.axes import COMPARED
from orchestrator.report.blocks import Block, Cell, Column, Group, Mark, Table, Words, text
from orchestrator.report.contents import Report
from orchestrator.report.families import Difference, Family
from orchestrator.report.tables import Column as Scored
from orchestrator.report.tables import Comparison
from orchestrator.report.words import listed
from orchestrator.statistics.interval import Interval, Unknown
from trainers.catalog import METRICS

METHOD: Words = (
    "Differences are paired by seed and image, with 95 % intervals for other seeds on these "
    "images: t over the seeds, whose variance is moderated by that of the other cells of the same "
    "task, set and recipe (Smyth 2004). p is corrected by Holm's method over the table; below 0.05 "
    "it says that the norm differs. Otherwise it is undecided, which does not mean that there is "
    "no difference: the detectable one would be found by such a test in 80 % of cases (at 5 %, not "
    "corrected). ",
    Mark("differences.csv", "code"),
    " has the intervals for other images as well.",
)


def table(report: Report, comparison: Comparison) -> Table | None:
    """The differences of a comparison's norms; None if there is nothing to compare."""
    family = comparison.family
    if family is None or not any(one.both_scored for one in family.differences.values()):
        return None
    columns = tuple(
        Column(
            (column.task, column.dataset, METRICS[column.metric].facts["title"]),
            "right",
            about={"task": str(column.task)},
        )
        for column in comparison.columns
    )
    rows = tuple(
        (
            *report.label_cells(row.labels),
            *(
                cell(family.differences.get((comparison.cell_of(row, column), norm)), column)
                for column in comparison.columns
            ),
        )
        for row in comparison.rows
        if (norm := str(row.labels[COMPARED])) != family.baseline
    )
    return Table(
        (*report.label_columns(), *columns),
        rows,
        caption=f"Differences from {family.baseline}, {report.frame.size_words[comparison.size]}",
        style="comparison",
        about={"size": comparison.size},
    )


def cell(one: Difference | None, column: Scored) -> Cell:
    """A difference in words: estimate, interval, and what follows."""
    if one is None:
        return Cell("", note="not in the sweep")
    of = one.contrast
    estimate = None if isinstance(of.differences, Unknown) else float(of.differences.mean())
    shown = "" if estimate is None else signed(column, estimate)
    found = of.other_seeds
    if isinstance(found, Unknown):
        said = [undecided(one)]
        if isinstance(of.other_images, Interval):
            said.append(f"other images: {bounds(column, of.other_images)}")
        return Cell(shown, estimate, note=", ".join(said))
    assert one.p_holm is not None
    said = [f"{'differs' if one.is_told else 'undecided'}, p {p_value(one.p_holm)}"]
    if not isinstance(of.detectable, Unknown):
        said.append(f"detectable {column.text(of.detectable)}")
    if of.left_out:
        said.append(f"n = {len(of.seeds)}")
    return Cell(shown, estimate, spread=bounds(column, found), note=", ".join(said))


def signed(column: Scored, value: float) -> str:
    """`+0.21`, `\N{MINUS SIGN}0.03`; what rounds to zero has no sign."""
    shown = column.text(abs(value))
    if not float(shown):
        return shown
    return f"+{shown}" if value > 0 else f"\N{MINUS SIGN}{shown}"


def bounds(column: Scored, found: Interval) -> str:
    return f"[{signed(column, found.low)}, {signed(column, found.high)}]"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def undecided(one: Difference) -> str:
    """Why there is no interval, in brief: `undecided: one seed`, `cannot be compared`."""
    reason = one.why.split(":")[0]
    return reason if reason.startswith("cannot") else f"undecided: {reason}"


def other_runs(report: Report) -> tuple[Block, ...]:
    """The differences at other precisions and tilings, folded away."""
    tables = tuple(
        _of_run(report, family)
        for family in report.families
        if not family.is_plain and any(not one.why for one in family.differences.values())
    )
    title = "Differences at other precisions and tilings"
    return (Group("folded", tables, title),) if tables else ()


def _of_run(report: Report, family: Family) -> Table:
    """A row for each norm, task, set and recipe, a column for each metric."""
    frame = report.frame
    lines: dict[tuple[str, ...], dict[str, Difference]] = {}
    for ((task, name, metric, *recipe), norm), one in family.differences.items():
        lines.setdefault((norm, *recipe, task, name), {})[metric] = one
    metrics = [metric for metric in METRICS.names if any(metric in line for line in lines.values())]
    heads = (*report.label_columns(), Column(("task",)), Column(("set",)))
    numbers = (Column((METRICS[metric].facts["title"],), "right") for metric in metrics)
    rows = tuple(
        (
            report.norm_cell(norm),
            *(Cell(word, word) for word in words),
            *(cell(line.get(metric), Scored(words[-2], words[-1], metric)) for metric in metrics),
        )
        for (norm, *words), line in lines.items()
    )
    name = frame.named(frame.tables_by, family.labels)
    of_run = next(iter(family.differences.values())).contrast.place.run
    return Table(
        (*heads, *numbers),
        rows,
        caption=f"{name}, {frame.size_words[family.size]}, {of_run}: "
        f"differences from {family.baseline}",
    )


def left_out(report: Report) -> tuple[Block, ...]:
    """What is not compared, or only in part, with the reasons in full, folded away."""
    said: dict[tuple[str, str], dict[str, list[str]]] = {}
    for family in report.families:
        for ((task, name, metric, *recipe), norm), one in family.differences.items():
            of = one.contrast
            title = METRICS[metric].facts["title"].split(" (")[0]
            size = report.frame.size_words[family.size]
            where = ", ".join(filter(None, [size, *recipe, task, of.place.run]))
            for why in dict.fromkeys([one.why] if one.why else of.left_out):
                scored = said.setdefault((norm, why), {}).setdefault(where, [])
                scored.append(f"{name} {title}")
    lines = [
        f"{norm}, {'; '.join(f'{at} ({listed(scored)})' for at, scored in places.items())}: {why}."
        for (norm, why), places in said.items()
    ]
    title = f"Not compared, or without some seeds: {len(lines)}"
    return (Group("folded", (text("list", *lines),), title),) if lines else ()
