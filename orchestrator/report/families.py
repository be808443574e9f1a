"""The differences of one table as a family, with the error rates that are kept over all of it.

A family has all norms, tasks, sets and metrics of one network at one size, run at one precision and
tiling. Over its differences from the baseline p is corrected by Holm's method; over its sets of the
best norms alpha is shared (orchestrator.statistics.multiplicity). Both are about other seeds on the
same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import pandas as pd

from orchestrator.plan.axes import COMPARED
from orchestrator.report.comparable import FP32, MEAN, Final
from orchestrator.report.contrasts import Contrast, Place, baseline, contrast, interval, places
from orchestrator.report.frame import Frame
from orchestrator.report.pairs import index_of
from orchestrator.statistics.decisions import p_differs
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.moderation import Prior
from orchestrator.statistics.multiplicity import BestSet, best_set, holm

ALPHA = 0.05
Cell = tuple[str, ...]  # task, set, metric, and the values of the recipe that vary


@dataclass(frozen=True)
class Difference:
    """A norm's contrast with the baseline; p is None where there is no interval.

    `both_scored`: both norms have final scores, be they comparable or not.
    """

    contrast: Contrast
    both_scored: bool = True
    p: float | None = None
    p_holm: float | None = None

    @property
    def is_told(self) -> bool:
        """Whether the norm differs from the baseline, after Holm's correction."""
        return self.p_holm is not None and self.p_holm < ALPHA

    @property
    def why(self) -> str:
        """Why there is no interval for other seeds, or ""."""
        found = self.contrast.other_seeds
        return found.reason if isinstance(found, Unknown) else ""


@dataclass(frozen=True)
class Family:
    """The comparisons of one table. `best` has the norms that may be the best at each of its cells.

    A norm without any interval is in no set, and a cell with fewer than two others has none.
    """

    labels: Mapping[str, Any]
    size: str
    precision: str
    tile: str
    baseline: str
    differences: Mapping[tuple[Cell, str], Difference]
    best: Mapping[Cell, BestSet]

    @property
    def is_plain(self) -> bool:
        """Whether it is about fp32 on whole images."""
        return (self.precision, self.tile) == (FP32, "")

    def may_be_best(self, cell: Cell, norm: str) -> bool | None:
        """Whether a norm cannot be told from the best; None if it can be compared with none."""
        best = self.best.get(cell)
        if best is None or norm not in (*best.members, *(one.name for one in best.worse)):
            return None
        return norm in best.members

    def marked(self, cell: Cell) -> frozenset[str]:
        """The norms to mark: those that may be the best, where others surely are not."""
        best = self.best.get(cell)
        return frozenset(best.members) if best and best.worse else frozenset()


def cell_of(frame: Frame, place: Place) -> Cell:
    """The place's column and row in its table, but for the norm."""
    recipe = [str(place.labels[name]) for name in frame.rows_by if name != COMPARED]
    return (str(place.labels["task"]), place.set, place.metric, *recipe)


def families(frame: Frame) -> tuple[Family, ...]:
    """Every family, in file order, fp32 on whole images first for each size."""
    grouped: dict[tuple[Any, ...], list[Place]] = {}
    for place in places(frame):
        of_table = tuple(place.labels[name] for name in frame.tables_by)
        key = (of_table, place.size, place.precision, place.tile)
        grouped.setdefault(key, []).append(place)
    return tuple(_family(frame, found) for found in grouped.values())


def _family(frame: Frame, found: Sequence[Place]) -> Family:
    first, base = found[0], baseline(frame)
    differences = {
        (cell_of(frame, place), norm): Difference(
            contrast(frame, place, norm, base), _both_scored(frame, place, (norm, base))
        )
        for place in found
        for norm in _norms(frame, place)
        if norm != base
    }
    sets = {cell_of(frame, place): _pairs(frame, place) for place in found}
    sets = {cell: pairs for cell, pairs in sets.items() if pairs[0]}
    return Family(
        {name: first.labels[name] for name in frame.tables_by},
        first.size,
        first.precision,
        first.tile,
        base,
        _corrected(differences),
        {
            cell: best_set(names, pairs, alpha=ALPHA, sets=len(sets))
            for cell, (names, pairs) in sets.items()
        },
    )


def _norms(frame: Frame, place: Place) -> list[str]:
    """The norms of the sweep at a place, in file order."""
    index = index_of(frame)
    there = index.at(place)
    return [norm for norm in index.norms if norm in there]


def _both_scored(frame: Frame, place: Place, norms: Sequence[str]) -> bool:
    index = index_of(frame)
    there = index.at(place)
    return all(
        any(isinstance(index.final(row, place), Final) for row in there.get(norm, ()))
        for norm in norms
    )


def _corrected(
    differences: Mapping[tuple[Cell, str], Difference],
) -> dict[tuple[Cell, str], Difference]:
    found = {
        key: p_differs(one.contrast.other_seeds)
        for key, one in differences.items()
        if isinstance(one.contrast.other_seeds, Interval)
    }
    adjusted = dict(zip(found, holm(list(found.values())), strict=True))
    return {
        key: replace(one, p=found.get(key), p_holm=adjusted.get(key))
        for key, one in differences.items()
    }


Pairs = dict[tuple[str, str], Interval | Unknown]


def _pairs(frame: Frame, place: Place) -> tuple[list[str], Pairs]:
    """The norms that can be compared with any other, and the difference of each pair of norms."""
    norms = _norms(frame, place)
    pairs: Pairs = {
        (one, other): interval(frame, place, one, other) for one, other in combinations(norms, 2)
    }
    known = {norm for pair, found in pairs.items() if isinstance(found, Interval) for norm in pair}
    return [norm for norm in norms if norm in known], pairs


# --- differences.csv ------------------------------------------------------------------------------


def as_frame(frame: Frame, found: Sequence[Family]) -> pd.DataFrame:
    """Every difference from the baseline in long form, as differences.csv."""
    rows = [_row(frame, one) for family in found for one in family.differences.values()]
    axes = [axis.name for axis in frame.axes if axis.name != COMPARED and axis.role != "repeat"]
    return pd.DataFrame(
        rows, columns=None if rows else [*axes, "size", "set", "metric"], dtype=object
    )


def _row(frame: Frame, one: Difference) -> dict[str, Any]:
    of, place = one.contrast, one.contrast.place
    prior = of.prior if isinstance(of.prior, Prior) else None
    return {
        **place.labels,
        "size": place.size,
        "set": place.set,
        "metric": place.metric,
        "inference_precision": place.precision,
        "tile": place.tile,
        "candidate": of.candidate,
        "reference": of.reference,
        "seeds": len(of.seeds),
        "images": 0 if of.images == (MEAN,) else len(of.images),
        "estimate": None if isinstance(of.differences, Unknown) else float(of.differences.mean()),
        **_bounds(of.other_seeds, ""),
        "p": one.p,
        "p_holm": one.p_holm,
        "differs": one.is_told if one.p is not None else None,
        "detectable": None if isinstance(of.detectable, Unknown) else of.detectable,
        **_bounds(of.other_seeds_and_images, "_seeds_and_images"),
        **_bounds(of.other_images, "_images"),
        "prior_variance": prior.variance if prior else None,
        "prior_degrees_of_freedom": prior.degrees_of_freedom if prior else None,
        "prior_cells": prior.n_cells if prior else None,
        "trials": " ".join(of.trials),
        "left_out": "; ".join(of.left_out),
        "why": "; ".join(dict.fromkeys(_whys(of))),
    }


def _bounds(found: Interval | Unknown, suffix: str) -> dict[str, float | None]:
    known = found if isinstance(found, Interval) else None
    return {
        f"low{suffix}": known.low if known else None,
        f"high{suffix}": known.high if known else None,
        f"degrees_of_freedom{suffix}": known.degrees_of_freedom if known else None,
    }


def _whys(of: Contrast) -> Iterator[str]:
    """Why numbers are missing."""
    for found in (of.other_seeds, of.other_seeds_and_images, of.other_images):
        if isinstance(found, Unknown):
            yield found.reason
