"""What a low precision, or tiles, cost a norm: its scores run so, minus the same trials' scores.

Both sides have the same weights and images, so a drop is paired by seed and image. A precision is
held against fp32 at the same tiling, tiles against whole images at the same precision. Such
differences exist only where `normsweep evaluate` measured them.

Where a frame has several sweeps, the same norm, network, task and recipe is held against the first
of them in the same way. Trials of two dates rarely have one commit: they need not agree in that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from orchestrator.plan.axes import COMPARED, SWEEP
from orchestrator.report.comparable import FP32, HALF_REVISION, MEAN, Final
from orchestrator.report.contrasts import NO_IMAGES
from orchestrator.report.frame import Frame
from orchestrator.report.pairs import End, Index, Paired, Place, index_of, paired_ends, places
from orchestrator.report.words import in_store
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.paired import other_images, other_seeds

Kind = Literal["precision", "tile", "sweep"]
WHOLE = "whole images"


@dataclass(frozen=True)
class Drop:
    """One norm's scores at `place` minus those of the same trials as `against` has them run.

    `kind` says in what the two runs differ. Of the intervals, `other_seeds` is for these images and
    `other_images` for these weights.
    """

    kind: Kind
    place: Place
    norm: str
    against: str
    paired: Paired
    other_seeds: Interval | Unknown
    other_images: Interval | Unknown

    @property
    def estimate(self) -> float | None:
        """Over seeds and images; None where nothing can be compared."""
        found = self.paired.differences
        return None if isinstance(found, Unknown) else float(found.mean())


def drops(frame: Frame) -> tuple[Drop, ...]:
    """Every drop of every norm, in the order of `places`, where a trial was scored so."""
    index = index_of(frame)
    sweeps = frame.names(SWEEP.name) if SWEEP in frame.axes else [""]
    return tuple(found for place in places(frame) for found in _at(index, place, str(sweeps[0])))


def _at(index: Index, place: Place, first: str) -> Iterator[Drop]:
    for kind, plain in _plain(place, first):
        for norm, rows in index.at(place).items():
            if any(isinstance(index.final(row, place), Final) for row in rows):
                yield _drop(index, kind, place, plain, norm)


def _plain(place: Place, first: str) -> Iterator[tuple[Kind, Place]]:
    if place.precision != FP32:
        yield "precision", replace(place, precision=FP32)
    if place.tile:
        yield "tile", replace(place, tile="")
    if not place.run and place.labels.get(SWEEP.name, first) != first:
        yield "sweep", replace(place, labels={**place.labels, SWEEP.name: first})


def _drop(index: Index, kind: Kind, place: Place, plain: Place, norm: str) -> Drop:
    run, against = {
        "precision": (place.precision, plain.precision),
        "tile": (f"tiles {place.tile}", WHOLE),
        "sweep": (str(place.labels.get(SWEEP.name)), str(plain.labels.get(SWEEP.name))),
    }[kind]
    ends = End(place, norm, run), End(plain, norm, against)
    if not index.at(plain).get(norm):
        pair = Paired((), (), (), Unknown(f"not in {against}"), ())
    else:
        pair = paired_ends(index, *ends, but=("commit",) if kind == "sweep" else (HALF_REVISION,))
    seeds: Interval | Unknown
    images: Interval | Unknown
    if isinstance(pair.differences, Unknown):
        seeds = images = pair.differences
    elif kind == "sweep" and _are_the_same(pair):
        seeds = images = Unknown("the same trials")
    else:
        seeds = other_seeds(pair.differences)
        images = NO_IMAGES if pair.images == (MEAN,) else other_images(pair.differences)
    return Drop(kind, place, norm, against, pair, seeds, images)


def _are_the_same(pair: Paired) -> bool:
    """Whether both sides are the same trials with the same scores."""
    ids = [in_store(trial) for trial in pair.trials]
    is_zero = not isinstance(pair.differences, Unknown) and not np.any(pair.differences)
    return is_zero and ids[: len(pair.seeds)] == ids[len(pair.seeds) :]


def as_frame(frame: Frame, found: Sequence[Drop]) -> pd.DataFrame:
    """Every drop in long form, as drops.csv."""
    return pd.DataFrame([_row(frame, one) for one in found], dtype=object)


def _row(frame: Frame, one: Drop) -> dict[str, Any]:
    place, pair = one.place, one.paired
    return {
        **{
            axis.name: one.norm if axis.name == COMPARED else place.labels[axis.name]
            for axis in frame.axes
            if axis.role != "repeat"
        },
        "size": place.size,
        "set": place.set,
        "metric": place.metric,
        "inference_precision": place.precision,
        "tile": place.tile,
        "against": one.against,
        "seeds": len(pair.seeds),
        "images": 0 if pair.images == (MEAN,) else len(pair.images),
        "estimate": one.estimate,
        **_bounds(one.other_seeds, ""),
        **_bounds(one.other_images, "_images"),
        "trials": " ".join(pair.trials[: len(pair.seeds)]),
        "left_out": "; ".join(pair.left_out),
        "why": one.other_seeds.reason if isinstance(one.other_seeds, Unknown) else "",
    }


def _bounds(found: Interval | Unknown, suffix: str) -> dict[str, float | None]:
    known = found if isinstance(found, Interval) else None
    return {
        f"low{suffix}": known.low if known else None,
        f"high{suffix}": known.high if known else None,
    }
