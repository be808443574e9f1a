"""The comparison tables: how good each norm is on each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from orchestrator.hints import hint
from orchestrator.plan.axes import COMPARED
from orchestrator.plan.besides import Seen, besides
from orchestrator.report import difference_tables, scoring
from orchestrator.report.blocks import Block, Cell, Column, Group, Mark, Table, Text, Words, text
from orchestrator.report.comparable import NOT_RECORDED
from orchestrator.report.contents import Report
from orchestrator.report.references import trial_to_evaluate
from orchestrator.report.spreads import Spread
from orchestrator.report.tables import Cell as Score
from orchestrator.report.tables import Column as Scored
from orchestrator.report.tables import Comparison
from orchestrator.report.words import alike, count
from orchestrator.statistics.interval import Unknown
from trainers.catalog import METRICS

INPUT_ROW = "degraded input"
UNRECORDED = (
    "These trials have not recorded what their degraded input scores: they began before it was "
    "scored. One trial of each task says it for all: "
)


def blocks(report: Report) -> tuple[Block, ...]:
    tables: list[Block] = []
    differences = 0
    for comparison in report.comparisons:
        tables.append(table(report, comparison))
        if (below := difference_tables.table(report, comparison)) is not None:
            tables.append(below)
            differences += 1
    how = scoring.scored(report.plan, report.frame.recorded)
    return (
        Text((_lead(report),), "lead"),
        Group("tables", tuple(tables)),
        *((text("method", difference_tables.METHOD),) if differences else ()),
        Group("titled", (text("list", *how),), "How each task is scored"),
        *_besides(report),
        *_unrecorded_inputs(report),
        *difference_tables.other_runs(report),
        *difference_tables.left_out(report),
        *_components(report),
    )


def table(report: Report, comparison: Comparison) -> Table:
    """One comparison: a row for each norm, and columns by task, set and metric."""
    columns = (
        Column(
            (column.task, column.dataset, METRICS[column.metric].facts["title"]),
            "right",
            about={"task": str(column.task)},
        )
        for column in comparison.columns
    )
    rows = (
        (*report.label_cells(row.labels), *map(cell, row.cells, comparison.columns))
        for row in comparison.rows
    )
    least, most = comparison.parameters
    parameters = f"{count(least)} to {count(most)}" if most != least else count(least)
    return Table(
        (*report.label_columns(), *columns),
        (*rows, _input_row(report, comparison)),
        caption=f"{comparison.title}, {report.frame.size_words[comparison.size]}",
        remark=f"{parameters} parameters",
        style="comparison",
        about={"size": comparison.size},
    )


def cell(score: Score, column: Scored) -> Cell:
    """A score in words: value, spread, and what is missing."""
    seeds = [f"n = {score.n}"] if score.sd is not None or (score.n and score.missing) else []
    return Cell(
        "" if score.mean is None else column.text(score.mean),
        score.mean,
        spread=f"± {column.text(score.sd)}" if score.sd is not None else "",
        note=", ".join([*seeds, *score.missing]),
        is_best=score.is_marked,
    )


def _input_row(report: Report, comparison: Comparison) -> tuple[Cell, ...]:
    """What the degraded input itself scores: the last row of a comparison."""
    labels = (Cell(INPUT_ROW, INPUT_ROW), *(Cell("") for _ in report.label_columns()[1:]))
    cells = []
    for column in comparison.columns:
        found = report.references[column]
        shown = "" if found.mean is None else column.text(found.mean)
        said = ", ".join(filter(None, (found.kind, found.missing)))
        cells.append(Cell(shown, found.mean, note=said))
    return (*labels, *cells)


def _besides(report: Report) -> tuple[Block, ...]:
    """What else differs between the norms than the norm, as the trials recorded it."""
    frame = report.frame
    counted = dict(zip(frame.trials["trial"], frame.trials["parameters"], strict=True))
    seen = [
        Seen(trial.axes, (*frame.recorded.get(trial.id, ()), trial.spec)[0], int(counted[trial.id]))
        for trial in report.plan.trials
    ]
    found = besides(seen)
    lines = [f"{one}." for one in found]
    title = f"Besides the norm in the blocks, against {found[0].baseline}" if found else ""
    return (Group("titled", (text("list", *lines),), title),) if found else ()


def _unrecorded_inputs(report: Report) -> tuple[Block, ...]:
    """What to run where trials have not recorded the scores of their inputs."""
    commands = dict.fromkeys(
        hint(f"evaluate {trial} --benchmark {column.dataset}")
        for column, found in report.references.items()
        if found.missing == NOT_RECORDED and (trial := trial_to_evaluate(report.frame, column.task))
    )
    if not commands:
        return ()
    said: list[str | Mark] = [UNRECORDED]
    for i, command in enumerate(commands):
        said += [", " if i else "", Mark(command, "code")]
    return (Text(((*said, "."),), "method"),)


def _lead(report: Report) -> Words:
    seeds = report.frame.repeats
    spread = " ± sample standard deviation over the seeds" if seeds > 1 else ""
    before = f"Final values on whole held-out images, EMA weights. Mean{spread}; higher is better. "
    if any(
        cell.is_marked for table in report.comparisons for row in table.rows for cell in row.cells
    ):
        return (
            before,
            Mark("Marked", "best"),
            ": norms that cannot be told from the best of their column, where another norm can "
            "(a model confidence set, for other seeds on these images; at most 5 % of tables leave "
            "out a norm that is as good as the best).",
        )
    if seeds == 1:
        return (
            f"{before}One seed per cell: no spread can be given, differences may be seed "
            "noise, and nothing is marked.",
        )
    if any(family.best for family in report.families if family.is_plain):
        return (f"{before}Nothing is marked: in no column can a norm be told from the best.",)
    return (f"{before}Nothing is marked: no two norms can be compared.",)


COMPONENTS = (
    "Variances in the square of the unit, with 95 % intervals (Ting et al. 1990), from the "
    "analysis of variance of one norm's scores. One score per seed and image does not tell their "
    "interaction from the rest. An estimate below 0 is shown as it is."
)


def _components(report: Report) -> tuple[Block, ...]:
    """The variance components of every norm, folded away."""
    frame = report.frame
    shown = [spread for spread in report.spreads if not spread.place.run]
    if not any(isinstance(spread.components, tuple) for spread in shown):
        return ()
    written = {name: alike(_numbers_of(shown, name)) for name in ("seed", "image", "rest")}
    models = [name for name in frame.tables_by if frame.trials[name].nunique() > 1]
    words = [*models, "task"]
    columns = (
        *report.label_columns(),
        *(Column((name,)) for name in (*words, "size", "set", "metric")),
        *(Column((name,), "right") for name in ("seeds", "images", "seed", "image", "rest")),
    )
    rows = tuple(
        (
            *report.label_cells({**spread.place.labels, COMPARED: spread.norm}),
            *(Cell(str(spread.place.labels[name]), spread.place.labels[name]) for name in words),
            report.size_cell(spread.place.size),
            Cell(spread.place.set, spread.place.set),
            Cell(METRICS[spread.place.metric].facts["title"], spread.place.metric),
            Cell(str(spread.num_seeds), spread.num_seeds),
            Cell(str(spread.num_images), spread.num_images),
            *_variances(spread, written),
        )
        for spread in shown
    )
    title = "Variance components of final scores"
    return (Group("folded", (Table(columns, rows), text("method", COMPONENTS)), title),)


def _numbers_of(spreads: Sequence[Spread], name: str) -> Iterator[float]:
    """The variances of one component and their limits."""
    for spread in spreads:
        for component in () if isinstance(spread.components, Unknown) else spread.components:
            found = component.variance
            if component.name == name and not isinstance(found, Unknown):
                yield from (found.estimate, found.low, found.high)


def _variances(
    spread: Spread, written: Mapping[str, Callable[[float | None], str]]
) -> tuple[Cell, ...]:
    if isinstance(spread.components, Unknown):
        return (Cell("", note=spread.components.reason), Cell(""), Cell(""))
    found = {component.name: component.variance for component in spread.components}
    cells = []
    for name, show in written.items():
        variance = found[name]
        if isinstance(variance, Unknown):
            cells.append(Cell("", note=variance.reason))
            continue
        note = f"{show(variance.low)} to {show(variance.high)}"
        cells.append(Cell(show(variance.estimate), variance.estimate, note=note))
    return tuple(cells)
