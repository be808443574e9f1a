"""Differences of norms, with what may be said of each.

A contrast is a candidate's final scores minus a reference's at one place, paired by seed and image
(orchestrator.report.pairs).

The variance between seeds is moderated by the contrasts of every norm with the baseline, at every
size of the same backbone, task, recipe, set and metric, as in benchmarks/calibration.py. Those at
the same place of a norm that is in the contrast itself are not part of its pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.comparable import MEAN
from orchestrator.report.frame import Frame
from orchestrator.report.pairs import (
    Index,
    Place,
    Pooled,
    Scores,
    baseline,
    index_of,
    paired,
    places,
    scores,
)
from orchestrator.statistics.crossed import other_seeds_and_images
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.moderation import Prior, prior_from
from orchestrator.statistics.paired import constant, other_images, other_seeds, seed_variance
from orchestrator.statistics.power import smallest_detectable

__all__ = ["Contrast", "Place", "Scores", "baseline", "contrast", "places", "scores"]

NO_IMAGES = Unknown("no per-image scores: nothing tells how much other images would differ")


@dataclass(frozen=True)
class Contrast:
    """Candidate minus reference, paired by seed and image; see `Paired` for the fields it has.

    `prior` is what other contrasts say of the variance between seeds. Of the three intervals,
    `other_seeds` is for these images and `other_images` for these weights. `detectable` is the
    difference that would be found with a power of 80 % at 5 %, for other seeds on these images.
    """

    place: Place
    candidate: str
    reference: str
    seeds: tuple[int, ...]
    images: tuple[str, ...]
    trials: tuple[str, ...]
    differences: NDArray[np.float64] | Unknown
    left_out: tuple[str, ...]
    prior: Prior | Unknown
    other_seeds: Interval | Unknown
    other_seeds_and_images: Interval | Unknown
    other_images: Interval | Unknown
    detectable: float | Unknown


def contrast(frame: Frame, place: Place, candidate: str, reference: str) -> Contrast:
    """A candidate minus a reference at a place, with all that may be said of the difference."""
    index = index_of(frame)
    pair = paired(index, place, candidate, reference)
    prior = _prior(index, place, candidate, reference, pair.images)
    found = pair.differences
    seeds: Interval | Unknown
    crossed: Interval | Unknown
    images: Interval | Unknown
    if isinstance(found, Unknown):
        seeds = crossed = images = found
    else:
        known = prior if isinstance(prior, Prior) else None
        has_images = pair.images != (MEAN,)
        seeds = other_seeds(found, prior=known)
        crossed = other_seeds_and_images(found, prior=known) if has_images else NO_IMAGES
        images = other_images(found) if has_images else NO_IMAGES
    return Contrast(
        place,
        candidate,
        reference,
        pair.seeds,
        pair.images,
        pair.trials,
        found,
        pair.left_out,
        prior,
        seeds,
        crossed,
        images,
        smallest_detectable(seeds),
    )


def interval(frame: Frame, place: Place, candidate: str, reference: str) -> Interval | Unknown:
    """The contrast's interval for other seeds, without the rest: for the pairs of a best set."""
    index = index_of(frame)
    pair = paired(index, place, candidate, reference)
    if isinstance(pair.differences, Unknown):
        return pair.differences
    prior = _prior(index, place, candidate, reference, pair.images)
    return other_seeds(pair.differences, prior=prior if isinstance(prior, Prior) else None)


def _prior(
    index: Index, place: Place, candidate: str, reference: str, images: Sequence[str]
) -> Prior | Unknown:
    here, own = index.key(place.labels), {candidate, reference}
    pool = [
        one
        for one in _pool(index, place)
        if one.num_images == len(images) and not (one.cell == here and one.norm in own)
    ]
    return prior_from([one.variance for one in pool], [one.degrees for one in pool])


def _pool(index: Index, place: Place) -> tuple[Pooled, ...]:
    """The variances of all contrasts with the baseline at any size of this place.

    Differences that vary by rounding alone are of copies, and say nothing of the variance of
    others.
    """
    ran = (place.set, place.metric, place.precision, place.tile)
    key = (index.family(place.labels), ran)
    if key not in index.pools:
        found = []
        for cell in index.families.get(key[0], ()):
            other = Place(dict(zip(index.by, cell, strict=True)), "", *ran)
            for norm in index.cells[cell]:
                if norm == index.baseline:
                    continue
                pair = paired(index, other, norm, index.baseline)
                table = pair.differences
                if isinstance(table, Unknown) or len(pair.seeds) < 2:
                    continue
                if not constant(table.mean(axis=1)):
                    found.append(Pooled(cell, norm, len(pair.images), *seed_variance(table)))
        index.pools[key] = tuple(found)
    return index.pools[key]
