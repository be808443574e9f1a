"""From the noise of a difference to the seeds that would show it.

The test that is planned for is the report's own: t of the per-seed means, paired by seed, with the
variance moderated by other cells where there are some (orchestrator.report.contrasts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean

from scipy import special

from orchestrator.report.contrasts import Contrast
from orchestrator.statistics.crossed import mean_squares
from orchestrator.statistics.interval import Unknown
from orchestrator.statistics.moderation import MOST_DEGREES, Prior
from orchestrator.statistics.power import Spread, seeds_needed

ALPHA = 0.05
POWER = 0.8
SURE = 0.8


@dataclass(frozen=True)
class Noise:
    """How much a difference of two norms varies, in squared units of the metric.

    `seeds` is the variance of the per-seed mean difference, known with `degrees` of freedom.
    `images` is the part of `n_images` images in the variance of the mean. `prior_degrees` is
    Smyth's estimate of the prior's degrees of freedom, which may be infinite; 0 without a prior.
    """

    seeds: float
    degrees: float
    images: float | Unknown
    n_images: int
    prior_degrees: float


@dataclass(frozen=True)
class Needed:
    """How many seeds find a difference, for two kinds of other trainings.

    `sure` is the number for other seeds if the variance is at the upper end of its one-sided 80 %
    interval. A number from the estimate itself falls short about every other time; this one, every
    fifth time (Browne 1995, Statistics in Medicine 14:1933).
    """

    other_seeds: int | Unknown
    sure: int | Unknown
    other_seeds_and_images: int | Unknown


def noise_of(contrast: Contrast) -> Noise | Unknown:
    """The noise that a contrast shows; unknown for one seed, or without variation."""
    table, found = contrast.differences, contrast.other_seeds
    if isinstance(table, Unknown):
        return table
    if isinstance(found, Unknown):
        return found
    seeds, images = table.shape
    if seeds < 2:
        return Unknown("one seed in common")
    of_images: float | Unknown
    if isinstance(contrast.other_seeds_and_images, Unknown):
        of_images = contrast.other_seeds_and_images
    else:
        squares = mean_squares(table)
        of_images = max(0.0, squares.images - squares.rest) / table.size
    prior = contrast.prior.estimated_degrees if isinstance(contrast.prior, Prior) else 0.0
    variance = found.standard_error**2 * seeds
    return Noise(variance, found.degrees_of_freedom, of_images, images, prior)


def mean_noise(noises: Sequence[Noise]) -> Noise:
    """The noise to expect of a pair that is not among these.

    They have norms and images in common, so their degrees of freedom do not add up.
    """
    images = [noise.images for noise in noises if not isinstance(noise.images, Unknown)]
    return Noise(
        fmean(noise.seeds for noise in noises),
        min(noise.degrees for noise in noises),
        fmean(images) if images else noises[0].images,
        min(noise.n_images for noise in noises),
        min(noise.prior_degrees for noise in noises),
    )


@lru_cache(maxsize=4_096)  # places without trials of their own share the noise of others
def needed(difference: float, noise: Noise, other_cells: int) -> Needed:
    """The seeds for a true difference, with POWER at ALPHA (two-sided).

    `other_cells` is the number of differences in the plan that will moderate this one's variance.
    """
    upper = noise.degrees / float(special.chdtri(noise.degrees, SURE))
    crossed: int | Unknown = (
        noise.images
        if isinstance(noise.images, Unknown)
        else _fewest(difference, noise, noise.images, other_cells)
    )
    return Needed(
        _fewest(difference, noise, 0.0, other_cells),
        _fewest(difference, replace(noise, seeds=noise.seeds * upper), 0.0, other_cells),
        crossed,
    )


def _fewest(difference: float, noise: Noise, images: float, other_cells: int) -> int | Unknown:
    """The smallest number of seeds that suffices with the prior that so many seeds give."""
    seeds = 2
    while True:
        prior = prior_degrees(noise.prior_degrees, other_cells, seeds)
        spread = Spread(noise.seeds, images, noise.n_images - 1.0, prior)
        found = seeds_needed(difference, spread, power=POWER, alpha=ALPHA)
        if isinstance(found, int) and found <= seeds:
            return seeds
        if prior == prior_degrees(noise.prior_degrees, other_cells, seeds + 1):
            return found  # more seeds give no better prior
        seeds += 1


def prior_degrees(estimated: float, other_cells: int, seeds: int) -> float:
    """The degrees of freedom that moderation adds at so many seeds (moderation.prior_from)."""
    if other_cells < 2:
        return 0.0
    return min(estimated, MOST_DEGREES, other_cells * (seeds - 1) / 2)
