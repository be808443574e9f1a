"""Differences of norms, with what may be said of each.

A contrast is a candidate's final scores minus a reference's at one place, paired by seed and image
(orchestrator.report.pairs).

The variance between seeds is moderated by the contrasts of every norm with the baseline, at every
size of the same backbone, task, recipe, set and metric, as in benchmarks/calibration.py. Those at
the same place of a norm that is in the contrast itself are not part of its pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.comparable import MEAN
from orchestrator.report.frame import Frame
from orchestrator.report.pairs import (
    Index,
    Place,
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


def _prior(
    index: Index, place: Place, candidate: str, reference: str, images: Sequence[str]
) -> Prior | Unknown:
    tables = list(_pool(index, place, {candidate, reference}, len(images)))
    variances = [seed_variance(table) for table in tables]
    return prior_from(
        [variance for variance, _ in variances], [degrees for _, degrees in variances]
    )


def _pool(
    index: Index, place: Place, own: set[str], num_images: int
) -> Iterator[NDArray[np.float64]]:
    """The differences from the baseline of other cells, of as many images.

    Those that vary by rounding alone are copies: they say nothing of the variance of others.
    """
    for labels, cell in index.cells.items():
        there = dict(zip(index.by, labels, strict=True))
        if any(
            there[name] != str(place.labels.get(name))
            for name in index.by
            if name not in index.sizes
        ):
            continue
        is_here = labels == index.key(place.labels)
        other = Place(there, "", place.set, place.metric, place.precision, place.tile)
        for norm in cell:
            if norm == index.baseline or (is_here and norm in own):
                continue
            pair = paired(index, other, norm, index.baseline)
            if (
                not isinstance(pair.differences, Unknown)
                and len(pair.seeds) > 1
                and len(pair.images) == num_images
                and not constant(pair.differences.mean(axis=1))
            ):
                yield pair.differences
