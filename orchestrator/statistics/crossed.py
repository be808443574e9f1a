"""The paired difference of two norms for other seeds and other images at once.

Seeds and images are crossed random effects: d[s, i] = delta + a[s] + b[i] + e[s, i], where e holds
the interaction and the rest, which one score per seed and image cannot tell apart. With the mean
squares of the two-way layout (Searle, Casella and McCulloch 1992, Variance Components, ch. 4), the
variance of the overall mean is

    V = A + B    A = MS_seeds / (S I)    B = max(0, MS_images - MS_rest) / (S I)

since E MS_seeds = I var(a) + var(e), E MS_images = S var(b) + var(e), E MS_rest = var(e). A is the
variance of the per-seed means over S, so other cells can moderate it as in
orchestrator.statistics.moderation. docs/decisions/0019 says why this and not a bootstrap, and why
the two parts are not always merged into one t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from orchestrator.statistics.interval import Interval, Part, Unknown
from orchestrator.statistics.moderation import Prior, moderated
from orchestrator.statistics.paired import Table, checked, t_interval, with_images, with_seeds

OTHER_SEEDS_AND_IMAGES = "other seeds and other images"

# With fewer for the seeds, Satterthwaite's intervals are too short: with two seeds on 100 images
# they cover 87 % (benchmarks/crossed_intervals.py), and at the levels of Holm's correction tests
# reject true nulls several times too often.
FEWEST_DEGREES = 6.0


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
    table = with_seeds(with_images(checked(differences)), prior)
    if isinstance(table, Unknown):
        return table
    seeds, images = table.shape
    squares = mean_squares(table)
    of_seeds, seed_degrees = squares.seeds / images, float(seeds - 1)
    if prior is not None:
        posterior = moderated(of_seeds, seed_degrees, prior)
        of_seeds, seed_degrees = posterior.variance, posterior.degrees_of_freedom
    rest = squares.rest if seeds > 1 else 0.0
    cells = seeds * images
    parts = parts_of(
        Part(of_seeds / seeds, seed_degrees),
        Part(squares.images / cells, images - 1.0),
        Part(rest / cells, max(1.0, (seeds - 1.0) * (images - 1.0))),
    )
    return t_interval(float(table.mean()), parts, level, (seeds, images), OTHER_SEEDS_AND_IMAGES)


def parts_of(seeds: Part, images: Part, rest: Part) -> tuple[Part, ...]:
    """The variance of the mean as an interval takes it: seeds + max(0, images - rest).

    With at least FEWEST_DEGREES for the seeds it is one part, with Satterthwaite's degrees of
    freedom (1946, Biometrics Bulletin 2:110), the squared sum over sum(part^2 / degrees). With
    fewer, seeds and images remain two parts.
    """
    of_images = max(0.0, images.squared - rest.squared)
    if seeds.degrees_of_freedom < FEWEST_DEGREES:
        return seeds, Part(of_images, images.degrees_of_freedom)
    squared = seeds.squared + of_images
    weight = sum(part.squared**2 / part.degrees_of_freedom for part in (seeds, images, rest))
    return (Part(squared, squared**2 / weight),)
