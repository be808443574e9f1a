"""The contents of a report: the frame, and what is computed from it once for all sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.expand import Plan
from orchestrator.report import tables
from orchestrator.report.blocks import Cell, Column, Figure
from orchestrator.report.drawing import norm_styles
from orchestrator.report.families import Family, families
from orchestrator.report.figures import all_figures
from orchestrator.report.frame import Frame
from orchestrator.report.growths import NormGrowth, NormTrend, growths, trends
from orchestrator.report.paper.beside import Beside, besides
from orchestrator.report.spreads import Spread, spreads


@dataclass(frozen=True)
class Report:
    """The numbers of a sweep at one moment."""

    plan: Plan
    frame: Frame
    comparisons: tuple[tables.Comparison, ...]
    growths: tuple[NormGrowth, ...]
    trends: tuple[NormTrend, ...]
    figures: list[Figure]
    written: datetime
    paper: tuple[Beside, ...] = ()
    families: tuple[Family, ...] = ()
    spreads: tuple[Spread, ...] = ()

    def drawn(self, kind: str) -> tuple[Figure, ...]:
        """The figures of one kind: `trace`, `size`, `entropy`, `loss`, `psnr`, `groups`."""
        return tuple(figure for figure in self.figures if figure.slug.split("-")[0] == kind)

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

    def norm_cell(self, norm: str, text: str = "") -> Cell:
        """The name of a norm, or `text` instead, with the norm's style beside it."""
        return Cell(text or norm, text or norm, style=norm_styles(self.frame.names(COMPARED))[norm])


def build(plan: Plan, frame: Frame, written: datetime) -> Report:
    grown = growths(frame)
    found = trends(frame, grown)
    differences = families(frame)
    return Report(
        plan,
        frame,
        tables.comparisons(frame, differences),
        grown,
        found,
        all_figures(frame, grown, found),
        written,
        besides(plan, frame),
        differences,
        spreads(frame),
    )
