"""Draws the figures of a large sweep in other processes, while the rest is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from orchestrator.report import thinning
from orchestrator.report.blocks import Figure
from orchestrator.report.figures import Placed, from_numbers, from_points
from orchestrator.report.frame import Frame
from orchestrator.report.growths import NormGrowth, NormTrend, group_traces
from orchestrator.report.observations import Observed
from orchestrator.store import children

MANY = 64  # trials; the figures of fewer are drawn sooner than another process has started
Draw = Callable[..., list[Placed]]


class Drawing:
    """Figures on their way. If a process that draws some is killed, they are drawn here."""

    def __init__(self, frame: Frame) -> None:
        """Begin with the figures of curves alone."""
        self._is_apart = len(frame.trials) >= MANY and children.cores() > 1
        # What figures are made from, which is a small part of a frame.
        self._frame = replace(
            frame,
            points=frame.labelled(
                thinning.for_figures(frame.points, len(frame.trials), frame.diverged)
            ),
            attempts=(),
            recorded={},
            looks={},
            images=pd.DataFrame(),
        )
        self._begun = self._drawn(from_points, self._frame)

    def finish(
        self,
        growths: Sequence[NormGrowth],
        trends: Sequence[NormTrend],
        observed: Sequence[Observed],
    ) -> Callable[[], list[Figure]]:
        """Begin to draw the others. The answer waits for all figures."""
        traces = replace(self._frame, points=group_traces(self._frame))
        others = self._drawn(from_numbers, traces, growths, trends, observed)
        return lambda: _in_page_order([*self._begun(), *others()])

    def _drawn(self, draw: Draw, *args: Any) -> Callable[[], list[Placed]]:
        """Begin to draw in another process, if many are drawn. The answer waits for it."""
        return children.apart(draw, *args) if self._is_apart else partial(draw, *args)


def _in_page_order(figures: Sequence[Placed]) -> list[Figure]:
    return [figure for _, figure in sorted(figures, key=lambda placed: placed[0])]
