"""The paired difference of two norms for other seeds and other images at once.

Seeds and images are crossed random effects: d[s, i] = delta + a[s] + b[i] + e[s, i], where e holds
the interaction and the rest, which one score per seed and image cannot tell apart. With the mean
squares of the two-way layout (Searle, Casella and McCulloch 1992, Variance Components, ch. 4), the
variance of the overall mean is

    V = A + B    A = MS_seeds / (S I)    B = max(0, MS_images - MS_rest) / (S I)

since E MS_seeds = I var(a) + var(e), E MS_images = S var(b) + var(e), E MS_rest = var(e). A is the
variance of the per-seed means over S, so other cells can moderate it as in
orchestrator.statistics.moderation. docs/decisions/0019 says why this and not a bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.moderation import Prior, moderated
from orchestrator.statistics.paired import Table, checked, constant, t_interval

OTHER_SEEDS_AND_IMAGES = "other seeds and other images"

# Below these, Satterthwaite's intervals are too short: their coverage falls to 88 % with two seeds
# and 92 % with three (benchmarks/crossed_intervals.py).
FEWEST_DEGREES = 3.0


@dataclass(frozen=True)
class MeanSquares:
    """The two-way analysis of variance of a table (S, I) with one value per cell.

    `rest` is NaN if there is but one seed or one image.
    """

    seeds: float
    images: float
    rest: float


def mean_squares(table: Table) -> MeanSquares:
    """MS_seeds, MS_images and MS_rest, with S - 1, I - 1 and (S - 1)(I - 1) degrees of freedom."""
    n_seeds, n_images = table.shape
    rows, columns, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    rest = table - rows[:, None] - columns[None, :] + mean
    degrees = (n_seeds - 1) * (n_images - 1)
    return MeanSquares(
        n_images * float(rows.var(ddof=1)) if n_seeds > 1 else np.nan,
        n_seeds * float(columns.var(ddof=1)) if n_images > 1 else np.nan,
        float((rest**2).sum()) / degrees if degrees else np.nan,
    )


def other_seeds_and_images(
    differences: ArrayLike, *, prior: Prior | None = None, level: float = 0.95
) -> Interval | Unknown:
    """The difference for other seeds and other images, of (S, I) differences.

    With one seed, a prior is needed, and the rest cannot be taken off the images' part: the
    interval is then somewhat too wide.
    """
    table = checked(differences)
    if isinstance(table, Unknown):
        return table
    seeds, images = table.shape
    if images == 1:
        return Unknown("one image: nothing tells how much other images would differ")
    if seeds == 1 and prior is None:
        return Unknown(
            "one seed: nothing tells how much other seeds would differ, and no other cells are "
            "there to pool from"
        )
    if constant(table.mean(axis=0)):
        return Unknown(f"the {images} images have equal means: they are no sample of others")
    if seeds > 1 and prior is None and constant(table.mean(axis=1)):
        return Unknown(f"the {seeds} seeds have equal means: their variation cannot be estimated")
    squares = mean_squares(table)
    of_seeds, seed_degrees = squares.seeds / images, float(seeds - 1)
    if prior is not None:
        posterior = moderated(of_seeds, seed_degrees, prior)
        of_seeds, seed_degrees = posterior.variance, posterior.degrees_of_freedom
    rest = squares.rest if seeds > 1 else 0.0
    part = of_seeds / seeds
    others = Part(squares.images, images - 1), Part(rest, max(1, (seeds - 1) * (images - 1)))
    squared, degrees = combined(part, seed_degrees, *others, seeds * images, level)
    return t_interval(
        float(table.mean()), squared, degrees, level, (seeds, images), OTHER_SEEDS_AND_IMAGES
    )


@dataclass(frozen=True)
class Part:
    """A mean square and its degrees of freedom."""

    square: float
    degrees: float


def combined(
    seed_part: float, seed_degrees: float, images: Part, rest: Part, cells: int, level: float
) -> tuple[float, float]:
    """V and the degrees of freedom of a t with which an interval of this level holds.

    With at least FEWEST_DEGREES for the seeds' part, Satterthwaite's (1946, Biometrics Bulletin
    2:110): V^2 / sum(part^2 / degrees). With fewer, those that give the critical value of Cochran
    and Cox (1957, Experimental Designs, sec. 4.14): the mean of the two t quantiles, weighted by A
    and B. It is exact at both ends and conservative in between.
    """
    image_part = max(0.0, images.square - rest.square) / cells
    squared = seed_part + image_part
    if seed_degrees >= FEWEST_DEGREES:
        parts = (
            seed_part**2 / seed_degrees
            + (images.square / cells) ** 2 / images.degrees
            + (rest.square / cells) ** 2 / rest.degrees
        )
        return squared, squared**2 / parts
    p = (1 + level) / 2
    of_seeds, of_images = special.stdtrit(np.array([seed_degrees, images.degrees]), p)
    critical = (seed_part * of_seeds + image_part * of_images) / squared
    return squared, float(special.stdtridf(p, critical))
