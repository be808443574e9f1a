"""How features grow while training, and whether they still do at its end."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.report.blocks import Block, Cell, Column, Group, Table, text
from orchestrator.report.contents import Report
from orchestrator.report.growth_tables import (
    because,
    end,
    factor,
    in_column,
    slope,
    start,
    times,
)
from orchestrator.report.growths import NormGrowth
from orchestrator.report.words import number
from orchestrator.statistics.growth import DIVERGED_SHARE, MARGIN
from orchestrator.statistics.interval import Unknown

Shown = Callable[[float | None], str]  # how the numbers of a column are written

METHOD = (
    "The factor is the largest group's mean square at the end over the same trial's at step 0, "
    "since norms start at different scales; means over seeds are geometric. The slope is that of "
    "log mean square against log step over the last half of training: 0 for features at a level, "
    "1 for a random walk. In brackets: 95 % intervals over seeds. Bounded: the slope's interval "
    f"lies below {MARGIN:g}. Growing: it lies above, or the share of trainings that diverge is "
    f"surely above {100 * DIVERGED_SHARE:g} %. A diverged trial counts as infinite."
)


def blocks(report: Report) -> tuple[Block, ...]:
    figures = report.drawn("trace")
    if not figures:
        return ()
    by_group = report.drawn("groups")
    folded = (Group("folded", by_group, "Group by group"),) if by_group else ()
    return (*figures, _table(report), text("method", METHOD), *folded)


def _table(report: Report) -> Table:
    columns = (
        *(Column((name,)) for name in (*report.models, "task")),
        *report.label_columns(),
        Column(("size",)),
        *(
            Column((head,), "right")
            for head in ("seeds", "at step 0", "at the end", "factor", "slope at the end")
        ),
        Column(("verdict",)),
    )
    growths, slopes = (
        in_column(of(line.growth) for line in report.growths) for of in (factor, slope)
    )
    rows = tuple(_row(report, line, growths, slopes) for line in report.in_order(report.growths))
    return Table(columns, rows, "Growth of the features", "largest group's mean square")


def _row(report: Report, line: NormGrowth, growths: Shown, slopes: Shown) -> tuple[Cell, ...]:
    seeds = sum(not isinstance(seed.slope, Unknown) for seed in line.growth.seeds)
    ends = (start(line.growth), end(line.growth))
    grown, steepness = factor(line.growth), slope(line.growth)
    return (
        *(Cell(str(line.labels[name]), line.labels[name]) for name in (*report.models, "task")),
        *report.label_cells(line.labels),
        report.size_cell(line.size),
        Cell(str(seeds), seeds),
        *(Cell(number(value), value) for value in ends),
        Cell(times(grown.value, growths), grown.value, spread=grown.within(growths)),
        Cell(slopes(steepness.value), steepness.value, spread=steepness.within(slopes)),
        Cell(line.growth.verdict, line.growth.verdict, note=because(line.growth)),
    )
