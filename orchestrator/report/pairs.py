"""Final scores by place, and the differences of two norms, paired by seed and image.

A place is one network, task and recipe, one set and metric. Seeds whose two trials are not
comparable are left out, and named (orchestrator.report.comparable); so are those of a minority, if
seeds were trained or scored differently.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.besides import reference_norm
from orchestrator.report.comparable import FP32, Final, Key, differing, finals, why_missing
from orchestrator.report.frame import Frame
from orchestrator.statistics.interval import Unknown
from trainers.catalog import METRICS


@dataclass(frozen=True)
class Place:
    """Where norms are compared: everything but the norm and the seed.

    `labels` has every axis but the norm and the repetitions; `size` is the frame's label of it.
    `precision` and `tile` are those of inference.
    """

    labels: Mapping[str, Any]
    size: str
    set: str
    metric: str
    precision: str = FP32
    tile: str = ""

    @property
    def run(self) -> str:
        """How the network ran, in words: `int8, tiles 64+16`; "" for fp32 on whole images."""
        tiles = [f"tiles {self.tile}"] if self.tile else []
        return ", ".join([self.precision, *tiles] if (self.precision, tiles) != (FP32, []) else [])


@dataclass(frozen=True)
class Scores:
    """One norm's final scores at a place: `table` is (S, I), `trials` are the ids by seed.

    Where only means were recorded, `images` is (MEAN,). `left_out` says why seeds have no scores.
    """

    place: Place
    norm: str
    seeds: tuple[int, ...]
    images: tuple[str, ...]
    table: NDArray[np.float64]
    trials: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Paired:
    """The differences (S, I) of two norms, or why there are none.

    `trials` are the ids of the candidate's by seed, then the reference's.
    """

    seeds: tuple[int, ...]
    images: tuple[str, ...]
    trials: tuple[str, ...]
    differences: NDArray[np.float64] | Unknown
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class End:
    """One side of a difference: a norm at a place, by the name that messages have for it."""

    place: Place
    norm: str
    name: str


@dataclass(frozen=True)
class Pooled:
    """The variance between seeds of one contrast with the baseline, for a pool of them.

    It is that of the per-seed means, with its degrees of freedom.
    """

    cell: tuple[str, ...]
    norm: str
    num_images: int
    variance: float
    degrees: float


@dataclass(frozen=True)
class Index:
    """A frame's trials and scores, found by place, and what has been computed from them so far.

    `by` are the axes of a place, `sizes` those of them that are sizes; `norms` are in file order.
    `families` has the cells that differ in nothing but size.
    """

    by: tuple[str, ...]
    sizes: tuple[str, ...]
    seeds: str
    norms: tuple[str, ...]
    baseline: str
    cells: Mapping[tuple[str, ...], Mapping[str, list[Mapping[str, Any]]]]
    families: Mapping[tuple[str, ...], Sequence[tuple[str, ...]]]
    finals: Mapping[Key, Final | str]
    paired: dict[tuple[Any, ...], Paired] = field(default_factory=dict)
    pools: dict[tuple[Any, ...], tuple[Pooled, ...]] = field(default_factory=dict)

    def at(self, place: Place) -> Mapping[str, list[Mapping[str, Any]]]:
        """The rows of the trials at a place, by norm."""
        return self.cells.get(self.key(place.labels), {})

    def key(self, labels: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(labels.get(name)) for name in self.by)

    def family(self, labels: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(labels.get(name)) for name in self.by if name not in self.sizes)

    def final(self, row: Mapping[str, Any], place: Place) -> Final | str:
        """A trial's scores at a place, or why it has none."""
        key = Key(row["trial"], place.set, place.metric, place.precision, place.tile)
        asked = f" at {place.run}" if place.run else ""
        return self.finals.get(key) or why_missing(row, asked)


_indices: WeakKeyDictionary[Frame, Index] = WeakKeyDictionary()  # read once for all contrasts


def index_of(frame: Frame) -> Index:
    if frame not in _indices:
        (seeds,) = (axis.name for axis in frame.axes if axis.role == "repeat")
        by = tuple(
            axis.name for axis in frame.axes if axis.name != COMPARED and axis.role != "repeat"
        )
        cells: dict[tuple[str, ...], dict[str, list[Mapping[str, Any]]]] = {}
        families: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for row in frame.rows:
            cell = tuple(str(row.get(name)) for name in by)
            if cell not in cells:
                family = tuple(str(row.get(name)) for name in by if name not in frame.sizes)
                families.setdefault(family, []).append(cell)
            cells.setdefault(cell, {}).setdefault(row[COMPARED], []).append(row)
        _indices[frame] = Index(
            by,
            tuple(frame.sizes),
            seeds,
            tuple(map(str, frame.names(COMPARED))),
            baseline(frame),
            cells,
            families,
            finals(frame),
        )
    return _indices[frame]


def baseline(frame: Frame) -> str:
    """The norm that others are compared with: layer_norm, or else the first of the file."""
    return reference_norm([str(norm) for norm in frame.names(COMPARED)])


def places(frame: Frame) -> tuple[Place, ...]:
    """Every place, in file order: what the sweep evaluates, then what else has been scored."""
    index = index_of(frame)
    by_trial: dict[str, list[Key]] = {}
    for key in index.finals:
        by_trial.setdefault(key.trial, []).append(key)
    found = []
    for cell in index.cells.values():
        rows = [row for of_norm in cell.values() for row in of_norm]
        labels = {name: rows[0][name] for name in index.by}
        scored = [key for row in rows for key in by_trial.get(row["trial"], ())]
        asked = [
            (name, metric, FP32, "")
            for name in dict.fromkeys(name for row in rows for name in row["evaluate"])
            for metric in METRICS.names
        ]
        also = sorted(
            ((key.set, key.metric, key.precision, key.tile) for key in scored),
            key=lambda one: (one[2:] != (FP32, ""), one[2:]),
        )
        found += [Place(labels, rows[0]["size"], *one) for one in dict.fromkeys([*asked, *also])]
    return tuple(found)


def scores(frame: Frame, place: Place, norm: str) -> Scores | Unknown:
    """A norm's final scores at a place; unknown if no seed has any, or one is not finite."""
    index = index_of(frame)
    found: dict[int, Final] = {}
    out: dict[int, str] = {}
    for row in index.at(place).get(norm, ()):
        final = index.final(row, place)
        if isinstance(final, str):
            out[row[index.seeds]] = final
        else:
            found[row[index.seeds]] = final
    kept = _largest_group(found, lambda final: final, out)
    left_out = _by_reason(out)
    if not kept:
        return Unknown("; ".join(left_out) or f"{norm} is not in the sweep here")
    finals_kept = list(kept.values())
    images = tuple(finals_kept[0].values)
    table = _table(finals_kept, images)
    if (why := _not_finite(table, list(kept), images, place.metric, norm)) is not None:
        return Unknown(why)
    trials = tuple(final.trial for final in finals_kept)
    return Scores(place, norm, tuple(kept), images, table, trials, left_out)


def paired(index: Index, place: Place, candidate: str, reference: str) -> Paired:
    ran = (place.set, place.metric, place.precision, place.tile)
    key = (index.key(place.labels), ran, candidate, reference)
    if key not in index.paired:
        index.paired[key] = _pair(index, place, candidate, reference)
    return index.paired[key]


def _pair(index: Index, place: Place, candidate: str, reference: str) -> Paired:
    return paired_ends(index, End(place, candidate, candidate), End(place, reference, reference))


def paired_ends(index: Index, one: End, other: End, but: Collection[str] = ()) -> Paired:
    """The differences of two sides, which may be at two places.

    Two trials need not agree in the facts `but`.
    """
    ends = (one, other)
    names = (one.name, other.name)
    rows = [
        {row[index.seeds]: row for row in index.at(end.place).get(end.norm, ())} for end in ends
    ]
    found: dict[int, tuple[Final, Final]] = {}
    out: dict[int, str] = {}
    for seed in dict.fromkeys([*rows[0], *rows[1]]):
        finals = [
            index.final(of_end[seed], end.place) if seed in of_end else "not in the sweep"
            for of_end, end in zip(rows, ends, strict=True)
        ]
        a, b = finals
        if isinstance(a, str) or isinstance(b, str):
            out[seed] = ", ".join(
                f"{name} {final}"
                for name, final in zip(names, finals, strict=True)
                if isinstance(final, str)
            )
        elif unlike := differing(a.without(but), b.without(but), *names):
            out[seed] = unlike
        else:
            found[seed] = a, b
    kept = _largest_group(found, lambda pair: pair[0], out)
    left_out = _by_reason(out)
    if not kept:
        none = "; ".join(left_out) or "neither is in the sweep here"
        return Paired((), (), (), Unknown(f"cannot be compared: {none}"), left_out)
    seeds, (ones, others) = list(kept), zip(*kept.values(), strict=True)
    images = tuple(ones[0].values)
    tables = [_table(of_end, images) for of_end in (ones, others)]
    bad = [
        why
        for table, name in zip(tables, names, strict=True)
        if (why := _not_finite(table, seeds, images, one.place.metric, name)) is not None
    ]
    trials = tuple(final.trial for final in (*ones, *others))
    differences = Unknown(f"cannot be compared: {'; '.join(bad)}") if bad else tables[0] - tables[1]
    return Paired(tuple(seeds), images, trials, differences, left_out)


def _largest_group(
    found: Mapping[int, Any], final_of: Callable[[Any], Final], out: dict[int, str]
) -> dict[int, Any]:
    """The seeds that agree with most others, in order; the reasons of the rest go to `out`."""
    groups: list[list[int]] = []
    for seed, one in found.items():
        for group in groups:
            if not differing(final_of(found[group[0]]), final_of(one), "", ""):
                group.append(seed)
                break
        else:
            groups.append([seed])
    if not groups:
        return {}
    most = max(groups, key=len)
    for seed, one in found.items():
        if seed not in most:
            leader = final_of(found[most[0]])
            out[seed] = differing(final_of(one), leader, "it", f"seed {most[0]}")
    return {seed: found[seed] for seed in most}


def _table(ends: Sequence[Final], images: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[final.values[image] for image in images] for final in ends])


def _not_finite(
    table: NDArray[np.float64], seeds: Sequence[int], images: Sequence[str], metric: str, norm: str
) -> str | None:
    """Where scores are not finite, if any are not. PSNR of an image restored exactly is inf."""
    bad = np.argwhere(~np.isfinite(table))
    if not len(bad):
        return None
    seed, image = bad[0]
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    return (
        f"{metric} of {norm} is {table[seed, image]} at seed {seeds[seed]}, {images[image]}{more}"
    )


def _by_reason(out: Mapping[int, str]) -> tuple[str, ...]:
    """`seed 2: pending`, `seeds 0, 1: diverged at step 37`."""
    reasons: dict[str, list[int]] = {}
    for seed, why in sorted(out.items()):
        reasons.setdefault(why, []).append(seed)
    return tuple(
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}: {why}"
        for why, seeds in reasons.items()
    )
