"""The points of a trial's journals in columns, since a sweep may have millions of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.store.journals import Point
from orchestrator.store.lines import Line


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
    def of(cls, journals: Iterable[tuple[int, Sequence[Line]]]) -> Points:
        """The points in some lines, each run of them with its attempt.

        If several attempts journalled the same (metric, step), the first counts, as
        `JournalReader.new_points` has it.
        """
        lines: list[Line] = []
        attempts: list[int] = []
        for attempt, found in journals:
            own = [line for line in found if line.values]
            lines += own
            attempts += [attempt] * len(own)
        values: list[dict[str, Any]] = [line.values for line in lines]
        counts = np.fromiter(map(len, values), dtype=np.int32, count=len(lines))
        names, metric = _numbered(values, counts)
        every = cls(
            names,
            # "nan", "inf" and "-inf" are read as what they say
            np.array(list(chain.from_iterable(map(dict.values, values))), dtype=np.float64),
            metric,
            np.repeat(np.arange(len(lines), dtype=np.int32), counts),
            np.array([line.step for line in lines], dtype=np.int64),
            np.array([line.time for line in lines], dtype=np.float64),
            np.array(attempts, dtype=np.int32),
            np.array([line.seq for line in lines], dtype=np.int64),
        )
        return every._first_ones()

    def _first_ones(self) -> Points:
        step = self.step
        if len(step) and int(step.max()) * len(self.metrics) >= 2**62:
            _, step = np.unique(step, return_inverse=True)  # small numbers: their product is too
        of_one = step[self.line] * len(self.metrics) + self.metric
        ordered = np.sort(of_one)
        if (ordered[1:] != ordered[:-1]).all():  # usual, and found ten times as fast
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


def _numbered(
    values: Sequence[Mapping[str, object]], counts: NDArray[np.int32]
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The metrics in order of appearance, and the number of each value's.

    Few sets of metrics make up all lines, so each is looked up once.
    """
    sets: defaultdict[tuple[str, ...], int] = defaultdict(count().__next__)
    of_line = np.fromiter(map(sets.__getitem__, map(tuple, values)), dtype=np.intp)
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    of_set = [[numbers[name] for name in names] for names in sets]
    joined = np.array(list(chain.from_iterable(of_set)), dtype=np.int32)
    begins = np.cumsum([0, *map(len, of_set)])[of_line]  # of a line's metrics in `joined`
    before = np.cumsum(counts) - counts
    places = np.arange(counts.sum()) - np.repeat(before - begins, counts)
    return tuple(numbers), joined[places]
