"""Draws the figures of a large sweep in another process, while the rest is computed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from types import TracebackType
from typing import Self

import pandas as pd

from orchestrator.report import thinning
from orchestrator.report.blocks import Figure
from orchestrator.report.figures import all_figures
from orchestrator.report.frame import Frame
from orchestrator.report.growths import NormGrowth, NormTrend
from orchestrator.report.observations import Observed

MANY = 64  # trials; the figures of fewer are drawn sooner than another process has started


class Drawing:
    """Figures on their way. If the process that draws them is killed, they are drawn here."""

    def __init__(self, num_trials: int) -> None:
        self._pool: Executor | None = None
        if num_trials >= MANY and len(os.sched_getaffinity(0)) > 1:
            context = multiprocessing.get_context("spawn")  # the driver of a run has threads
            self._pool = ProcessPoolExecutor(1, context, initializer=_leave_signals_alone)
            self._pool.submit(_leave_signals_alone)  # imports what drawing needs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None and error is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def begin(
        self,
        frame: Frame,
        growths: Sequence[NormGrowth],
        trends: Sequence[NormTrend],
        observed: Sequence[Observed],
    ) -> Callable[[], list[Figure]]:
        """Begin to draw. The answer waits for the figures."""
        drawn = thinning.for_figures(frame.points, len(frame.trials), frame.diverged)
        # What figures are made from, which is a small part of a frame.
        small = replace(
            frame, points=drawn, attempts=(), recorded={}, looks={}, images=pd.DataFrame()
        )

        def here() -> list[Figure]:
            return all_figures(small, growths, trends, observed)

        if self._pool is None:
            return here
        pool = self._pool
        try:
            future = pool.submit(all_figures, small, growths, trends, observed)
        except BrokenProcessPool:
            return here
        return lambda: _awaited(pool, future, here)


def _awaited(
    pool: Executor, future: Future[list[Figure]], here: Callable[[], list[Figure]]
) -> list[Figure]:
    try:
        return future.result()
    except BrokenProcessPool:
        return here()
    finally:
        pool.shutdown()


def _leave_signals_alone() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
