"""The contents of a report: the frame, and what is computed from it once for all sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol, TypeVar

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.expand import Plan
from orchestrator.report import tables
from orchestrator.report.apart import Drawing
from orchestrator.report.blocks import Cell, Column, Figure
from orchestrator.report.claims.answer import answer
from orchestrator.report.claims.judging import Judged, judge_all
from orchestrator.report.claims.lines import Claim
from orchestrator.report.claims.material import Material
from orchestrator.report.crops import Scene
from orchestrator.report.drops import Drop, drops
from orchestrator.report.families import Family, families
from orchestrator.report.frame import Frame
from orchestrator.report.growths import NormGrowth, NormTrend
from orchestrator.report.observations import Observed, observations
from orchestrator.report.paper.beside import Beside, besides
from orchestrator.report.references import Reference, reference
from orchestrator.report.spreads import Spread, spreads
from orchestrator.report.styles import Style, norm_styles


class Line(Protocol):
    """What is known of one norm, by the values of all axes but the repetitions."""

    @property
    def labels(self) -> Mapping[str, Any]: ...

    @property
    def size(self) -> str: ...


L = TypeVar("L", bound=Line)


@dataclass(frozen=True)
class Report:
    """The numbers of a sweep at one moment."""

    plan: Plan
    frame: Frame
    comparisons: tuple[tables.Comparison, ...]
    growths: tuple[NormGrowth, ...]
    trends: tuple[NormTrend, ...]
    drawing: Callable[[], list[Figure]]
    written: datetime
    paper: tuple[Beside, ...] = ()
    families: tuple[Family, ...] = ()
    spreads: tuple[Spread, ...] = ()
    claims: tuple[Judged, ...] = ()
    observed: tuple[Observed, ...] = ()
    scenes: tuple[Scene, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)  # pages of trials' runs, by trial

    @cached_property
    def figures(self) -> list[Figure]:
        """All figures. They may be on their way, so ask late."""
        return self.drawing()

    @cached_property
    def styles(self) -> dict[str, Style]:
        """How each norm is drawn."""
        return norm_styles(self.frame.names(COMPARED))

    @cached_property
    def drops(self) -> tuple[Drop, ...]:
        """What low precisions and tiles cost each norm."""
        return drops(self.frame)

    @cached_property
    def references(self) -> dict[tables.Column, Reference]:
        """What the degraded input scores, by column of the comparisons."""
        columns = dict.fromkeys(column for table in self.comparisons for column in table.columns)
        return {column: reference(self.frame, column) for column in columns}

    @property
    def answer(self) -> str:
        """The answer to the sweep's question in one sentence."""
        return answer(self.plan, self.claims)

    def drawn(self, kind: str) -> tuple[Figure, ...]:
        """The figures of one kind: `trace`, `size`, `entropy`, `depth`, `loss`, `psnr`, ..."""
        return tuple(figure for figure in self.figures if figure.slug.split("-")[0] == kind)

    @property
    def models(self) -> list[str]:
        """The axes of the model but the norm, if they vary: a table of all models has columns for
        them.
        """
        return [name for name in self.frame.tables_by if len(self.frame.names(name)) > 1]

    def in_order(self, lines: Sequence[L]) -> list[L]:
        """The lines with the norms of one task, recipe and size next to each other."""
        names = [*self.frame.tables_by, *self.frame.panels_by, "size"]
        places = {
            name: {label: i for i, label in enumerate(self.frame.names(name))} for name in names
        }

        def place(line: L) -> list[int]:
            labels = {**line.labels, "size": line.size}
            return [places[name][labels[name]] for name in names]

        return sorted(lines, key=place)

    def label_columns(self) -> tuple[Column, ...]:
        """The columns that identify a row: the norm, and the parts of the recipe that vary."""
        return tuple(Column((name,), is_label=name == COMPARED) for name in self.frame.rows_by)

    def label_cells(self, labels: Mapping[str, Any]) -> tuple[Cell, ...]:
        return tuple(
            self.norm_cell(labels[name])
            if name == COMPARED
            else Cell(str(labels[name]), labels[name])
            for name in self.frame.rows_by
        )

    def size_cell(self, size: str) -> Cell:
        return Cell(self.frame.size_words[size].replace(" ", "\N{NO-BREAK SPACE}"), size)

    def norm_cell(self, norm: str, text: str = "") -> Cell:
        """The name of a norm, or `text` instead, with the norm's style beside it."""
        return Cell(text or norm, text or norm, style=self.styles[norm])


def build(
    plan: Plan, frame: Frame, written: datetime, own: tuple[Claim, ...] | None = None
) -> Report:
    """Compute what the sections need. `own` claims are, by default, those that the sweep names."""
    drawing = Drawing(frame)
    material = Material(plan, frame)
    grown, found = material.growths, material.trends
    observed = observations(frame)
    figures = drawing.finish(grown, found, observed)
    differences = families(frame)
    return Report(
        plan,
        frame,
        tables.comparisons(frame, differences),
        grown,
        found,
        figures,
        written,
        besides(plan, frame),
        differences,
        spreads(frame),
        judge_all(material, own),
        observed,
    )
