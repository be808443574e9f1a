"""The points of a trial's journals in columns, since a sweep may have millions of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from orchestrator.store.columns import Columns
from orchestrator.store.journals import Point


@dataclass(frozen=True, eq=False)
class Points:
    """Each (metric, step) of a trial once, in the order of its journals; iterating gives `Point`s.

    A point has its value, the number of its metric in `metrics`, and the number of its line; the
    last four columns have one entry per line.
    """

    metrics: tuple[str, ...]
    value: NDArray[np.float64]
    metric: NDArray[np.int32]
    line: NDArray[np.int32]
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    attempt: NDArray[np.int32]
    seq: NDArray[np.int64]

    @classmethod
    def of(cls, journals: Iterable[tuple[int, Columns]]) -> Points:
        """The points in some lines, each run of them with its attempt.

        If several attempts journalled the same (metric, step), the first counts, as
        `JournalReader.new_points` has it.
        """
        runs = list(journals)
        numbers: defaultdict[str, int] = defaultdict(count().__next__)
        metrics = [_metrics_of(run, numbers) for _, run in runs]
        counts = _joined([sizes for _, sizes in metrics], np.int64)
        every = cls(
            tuple(numbers),
            _joined([run.value for _, run in runs], np.float64),
            _joined([metric for metric, _ in metrics], np.int32),
            np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            _joined([run.step for _, run in runs], np.int64),
            _joined([run.time for _, run in runs], np.float64),
            np.repeat(
                np.array([attempt for attempt, _ in runs], dtype=np.int32),
                [len(run.step) for _, run in runs],
            ),
            _joined([run.seq for _, run in runs], np.int64),
        )
        return every._first_ones()

    def _first_ones(self) -> Points:
        step = self.step
        if len(step) and int(step.max()) * len(self.metrics) >= 2**62:
            _, step = np.unique(step, return_inverse=True)  # small numbers: their product is too
        of_one = step[self.line] * len(self.metrics) + self.metric
        if _are_distinct(of_one):  # usual, and found ten times as fast
            return self
        _, first = np.unique(of_one, return_index=True)
        first.sort()
        return Points(
            self.metrics,
            self.value[first],
            self.metric[first],
            self.line[first],
            self.step,
            self.time,
            self.attempt,
            self.seq,
        )

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Point]:
        columns = (self.step, self.time, self.attempt, self.seq)
        steps, times, attempts, seqs = (column.tolist() for column in columns)
        for value, metric, i in zip(
            self.value.tolist(), self.metric.tolist(), self.line.tolist(), strict=True
        ):
            yield Point(self.metrics[metric], steps[i], value, times[i], attempts[i], seqs[i])


def _are_distinct(numbers: NDArray[np.int64]) -> bool:
    """Whether no number, of 0 or more, comes twice."""
    if len(numbers) and int(numbers.max()) < 100 * len(numbers):
        there = np.zeros(int(numbers.max()) + 1, dtype=bool)
        there[numbers] = True
        return int(there.sum()) == len(numbers)
    ordered = np.sort(numbers)
    return bool((ordered[1:] != ordered[:-1]).all())


def _metrics_of(
    run: Columns, numbers: defaultdict[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The number of each value's metric, new ones in order of appearance; values in each line."""
    of_set = [[numbers[name] for name in names] for names in run.sets]
    joined = np.array(list(chain.from_iterable(of_set)), dtype=np.int32)
    begins = np.cumsum([0, *map(len, of_set)])[run.set]  # of a line's metrics in `joined`
    counts = np.array([0, *map(len, of_set)], dtype=np.int64)[run.set + 1]
    before = np.cumsum(counts) - counts
    places = np.arange(counts.sum()) - np.repeat(before - begins, counts)
    return joined[places], counts


def _joined(parts: Sequence[NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.array([], dtype=dtype)
