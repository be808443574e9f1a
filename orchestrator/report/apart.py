"""Draws the figures of a large sweep in another process, while the rest is computed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

import pandas as pd

from orchestrator.report import thinning
from orchestrator.report.blocks import Figure
from orchestrator.report.frame import Frame
from orchestrator.report.growths import NormGrowth, NormTrend, group_traces
from orchestrator.report.observations import Observed

if TYPE_CHECKING:
    from orchestrator.report.figures import Placed

P = ParamSpec("P")
T = TypeVar("T")
MANY = 64  # trials; the figures of fewer are drawn sooner than another process has started


def pool_of_one() -> Executor:
    """A process that takes work, and ends with this one."""
    context = multiprocessing.get_context("spawn")  # the driver of a run has threads
    return ProcessPoolExecutor(1, context, initializer=_begin)


class Drawing:
    """Figures on their way. If the process that draws them is killed, they are drawn here."""

    def __init__(self, frame: Frame) -> None:
        """Begin with the figures of curves alone."""
        self._pool: Executor | None = None
        if len(frame.trials) >= MANY and len(os.sched_getaffinity(0)) > 1:
            self._pool = pool_of_one()
            self._pool.submit(_ready)
        # What figures are made from, which is a small part of a frame.
        self._frame = replace(
            frame,
            points=thinning.for_figures(frame.points, len(frame.trials), frame.diverged),
            attempts=(),
            recorded={},
            looks={},
            images=pd.DataFrame(),
        )
        self._begun = self._drawn(_from_points, self._frame)

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

    def finish(
        self,
        growths: Sequence[NormGrowth],
        trends: Sequence[NormTrend],
        observed: Sequence[Observed],
    ) -> Callable[[], list[Figure]]:
        """Begin to draw the others. The answer waits for all figures."""
        traces = replace(self._frame, points=group_traces(self._frame))
        others = self._drawn(_from_numbers, traces, growths, trends, observed)

        def awaited() -> list[Figure]:
            try:
                return _in_page_order([*self._begun(), *others()])
            finally:
                if self._pool is not None:
                    self._pool.shutdown()

        return awaited

    def _drawn(
        self, draw: Callable[P, list[Placed]], *args: P.args, **kwargs: P.kwargs
    ) -> Callable[[], list[Placed]]:
        """Begin to draw in the other process, if there is one. The answer waits for it."""

        def here() -> list[Placed]:
            return draw(*args, **kwargs)

        if self._pool is None:
            return here
        try:
            future = self._pool.submit(draw, *args, **kwargs)
        except BrokenProcessPool:
            return here
        return lambda: _awaited(future, here)


def _in_page_order(figures: Sequence[Placed]) -> list[Figure]:
    return [figure for _, figure in sorted(figures, key=lambda placed: placed[0])]


# Where figures are drawn elsewhere, matplotlib is not imported here.
def _from_points(frame: Frame) -> list[Placed]:
    from orchestrator.report.figures import from_points

    return from_points(frame)


def _from_numbers(
    frame: Frame,
    growths: Sequence[NormGrowth],
    trends: Sequence[NormTrend],
    observed: Sequence[Observed],
) -> list[Placed]:
    from orchestrator.report.figures import from_numbers

    return from_numbers(frame, growths, trends, observed)


def _awaited(future: Future[T], here: Callable[[], T]) -> T:
    try:
        return future.result()
    except BrokenProcessPool:
        return here()


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    # The process waits for work at a pipe of which it holds both ends, so it would not notice.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _ready() -> None:
    """Import what drawing needs."""
    import orchestrator.report.figures  # noqa: F401
