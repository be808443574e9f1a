"""The paired difference of two norms: how sure it is for other seeds, or for other images.

`differences` is a table with a row for each seed and a column for each image, (S, I), of the score
of one norm minus that of the other (dB of PSNR, or SSIM). One seed gives both norms the same
patches in the same order, and both are scored on the same image, so the difference has neither the
variation of the data's order nor that of the images' difficulty.

    d[s, i] = delta + a[s] + b[i] + e[s, i]

No number holds for "other seeds, these images" and for "other images, these weights" alike, so the
two are separate functions; orchestrator.statistics.crossed has the interval for both at once.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from orchestrator.statistics.interval import Interval, Part, Unknown
from orchestrator.statistics.moderation import Prior, moderated

OTHER_SEEDS = "other seeds, these images"
OTHER_IMAGES = "other images, these weights"

ONE_SEED = Unknown(
    "one seed: nothing tells how much other seeds would differ, and no other cells are there to "
    "pool from"
)

Table = NDArray[np.float64]

# Scores are float64 of about 30 dB, so that a difference carries an error of some 1e-14. What
# varies by less than this varies by rounding alone, in dB and in SSIM.
ROUNDING = 1e-10
LARGEST = 1e100  # its square is still a float


def other_seeds(
    differences: ArrayLike, *, prior: Prior | None = None, level: float = 0.95
) -> Interval | Unknown:
    """The difference for other seeds on these very images, from the mean of each seed.

    t = (mean - delta) / sqrt(s^2 / S), with s^2 the variance of the S per-seed means and S - 1
    degrees of freedom. A `prior` from other cells (orchestrator.statistics.moderation) moderates
    s^2 and adds its degrees of freedom; with it, one seed is enough.
    """
    table = with_seeds(checked(differences), prior)
    if isinstance(table, Unknown):
        return table
    seeds, images = table.shape
    variance, degrees = seed_variance(table)
    if prior is not None:
        posterior = moderated(variance, degrees, prior)
        variance, degrees = posterior.variance, posterior.degrees_of_freedom
    part = Part(variance / seeds, degrees)
    return t_interval(float(table.mean()), (part,), level, (seeds, images), OTHER_SEEDS)


def other_images(differences: ArrayLike, *, level: float = 0.95) -> Interval | Unknown:
    """The difference on other images with these very weights, from the mean of each image.

    t with I - 1 degrees of freedom. Says nothing about other seeds; with one seed it is all that
    can be said. Images are taken as a random sample of what the set stands for.
    """
    table = with_images(checked(differences))
    if isinstance(table, Unknown):
        return table
    seeds, images = table.shape
    means = table.mean(axis=0)
    part = Part(float(means.var(ddof=1)) / images, images - 1.0)
    return t_interval(float(table.mean()), (part,), level, (seeds, images), OTHER_IMAGES)


def seed_variance(differences: ArrayLike) -> tuple[float, float]:
    """The variance of the per-seed means of (S, I) differences, and its S - 1 degrees of freedom.

    This is what a pool is made of. With one seed the variance is NaN and has 0 degrees of freedom.
    """
    means = np.asarray(differences, dtype=float).mean(axis=1)
    if means.size == 1:
        return math.nan, 0.0
    return float(means.var(ddof=1)), float(means.size - 1)


def checked(differences: ArrayLike) -> Table | Unknown:
    """The differences as a table (S, I) of finite numbers that vary, or why they are none."""
    try:
        table = np.asarray(differences, dtype=float)
    except (TypeError, ValueError):
        return Unknown("not every image has a number at every seed: the layout is incomplete")
    if table.ndim != 2:
        raise ValueError(f"differences of shape {table.shape}: rows are seeds, columns images")
    if table.size == 0:
        return Unknown("no differences: the two have no seed and image in common")
    missing, infinite = int(np.isnan(table).sum()), int(np.isinf(table).sum())
    if missing:
        return Unknown(f"{missing} of {table.size} differences are missing or not a number")
    if infinite:
        return Unknown(f"{infinite} of {table.size} differences are infinite")
    largest = float(np.abs(table).max())
    if largest > LARGEST:
        return Unknown(f"a difference of {largest:.3g} is too large to compute with")
    if table.size > 1 and constant(table):
        return Unknown(
            f"all {table.size} differences equal {table.flat[0]:.6g}: without variation there is "
            "nothing to judge their uncertainty by"
        )
    return table


def with_seeds(table: Table | Unknown, prior: Prior | None) -> Table | Unknown:
    """A table whose seeds (rows), or a prior, tell how much other seeds differ; or why none do."""
    if isinstance(table, Unknown) or prior is not None:
        return table
    seeds = table.shape[0]
    if seeds == 1:
        return ONE_SEED
    if constant(table.mean(axis=1)):
        return Unknown(f"the {seeds} seeds have equal means: their variation cannot be estimated")
    return table


def with_images(table: Table | Unknown) -> Table | Unknown:
    """A table whose images (columns) tell how much other images differ; or why they do not."""
    if isinstance(table, Unknown):
        return table
    images = table.shape[1]
    if images == 1:
        return Unknown("one image: nothing tells how much other images would differ")
    if constant(table.mean(axis=0)):
        return Unknown(f"the {images} images have equal means: they are no sample of others")
    return table


def constant(values: Table) -> bool:
    """Whether values vary by rounding alone."""
    return float(np.ptp(values)) <= ROUNDING + 1e-12 * float(np.abs(values).max())


def t_interval(
    estimate: float,
    parts: tuple[Part, ...],
    level: float,
    counts: tuple[int, int],
    generalises_to: str,
) -> Interval | Unknown:
    """estimate +- half, where half^2 is the sum of t((1 + level) / 2)^2 of each part times it.

    With one part this is the interval of t. With several it is Banerjee's (1961, Sankhya A 23:359),
    which holds at least as often as it says, whatever the true sizes of the parts, at every level.
    `counts` are seeds and images. The degrees of freedom are those of a t with this half width.
    """
    squared = sum(part.squared for part in parts)
    quantiles = [float(special.stdtrit(part.degrees_of_freedom, (1 + level) / 2)) for part in parts]
    half = math.hypot(
        *(t * math.sqrt(part.squared) for t, part in zip(quantiles, parts, strict=True))
    )
    if not math.isfinite(half):
        few = min(part.degrees_of_freedom for part in parts)
        return Unknown(f"{few:.3g} degrees of freedom: the interval has no end")
    degrees = parts[0].degrees_of_freedom
    if len(parts) > 1:
        degrees = float(special.stdtridf((1 + level) / 2, half / math.sqrt(squared)))
    return Interval(
        estimate,
        estimate - half,
        estimate + half,
        math.sqrt(squared),
        degrees,
        level,
        *counts,
        generalises_to,
        parts if len(parts) > 1 else (),
    )
