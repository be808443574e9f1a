"""Variance components of scores: what the seed, the image, both together and the rest contribute.

The model of S seeds, I images and R repeats (evaluations of one trial on one image), all random and
independent:

    score[s, i, r] = mu + seed[s] + image[i] + (seed x image)[s, i] + rest[s, i, r]

Estimates are those of the analysis of variance (Searle, Casella & McCulloch 1992, chapter 4), from
mean squares whose expectations are

    seed            v_rest + R v_both + R I v_seed       S - 1 degrees of freedom
    image           v_rest + R v_both + R S v_image      I - 1
    seed x image    v_rest + R v_both                    (S - 1)(I - 1)
    rest            v_rest                               S I (R - 1)

Without repeats (R = 1) seed x image and rest are one and cannot be told apart. The table then says
so, and "rest" is the sum of the two.

The interval of the last line is chi-square's, exact under normality. The others are differences of
two mean squares, where Satterthwaite's approximation fails (it needs a sum): they have the modified
large-sample interval of Ting, Burdick, Graybill, Jeyaratnam & Lu (1990; Burdick & Graybill 1992,
section 3.3), which contains 0 exactly if the F test at the same level does not reject it.

An estimate below 0 is shown as it is, and so are limits: the component is then consistent with 0.
Truncating would bias every mean over tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from orchestrator.statistics.interval import Interval, Unknown

LEVEL = 0.95
NAMES = ("seed", "image", "seed x image", "rest")
OTHER_SEEDS_AND_IMAGES = "other seeds and other images"
COLUMNS = (
    "component",
    "variance",
    "low",
    "high",
    "standard_error",
    "degrees_of_freedom",
    "mean_square",
    "note",
)


@dataclass(frozen=True)
class Component:
    """One line: a variance in squared units of the score. `note` says how to read it, or is "".

    The interval's degrees of freedom are those of the line's own mean square.
    """

    name: str
    mean_square: float | Unknown
    variance: Interval | Unknown
    note: str = ""


@dataclass(frozen=True)
class _MeanSquare:
    value: float
    freedom: int


def variance_components(scores: ArrayLike) -> tuple[Component, ...] | Unknown:
    """The four lines in the order of NAMES, from scores of shape (seeds, images[, repeats]).

    Raises:
        ValueError: the array has another number of axes.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim == 2:
        table = table[:, :, None]
    if table.ndim != 3:
        raise ValueError(f"scores have {table.ndim} axes; seeds, images and repeats are wanted")
    reason = _unusable(table)
    return Unknown(reason) if reason else _components(table)


def _unusable(table: NDArray[np.float64]) -> str:
    """Why there are no components, or ""."""
    seeds, images, repeats = table.shape
    if seeds < 2 or images < 2 or repeats < 1:
        counts = ((seeds, "seed"), (images, "image"), (repeats, "repeat"))
        number, what = next(
            count for count, least in zip(counts, (2, 2, 1), strict=True) if count[0] < least
        )
        return f"{'one' if number else 'no'} {what}: its variance cannot be estimated"
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        seed, image, _ = bad[0]
        return f"scores that are not finite: {len(bad)}, the first of seed {seed} and image {image}"
    if np.ptp(table) <= 1e-12 * np.abs(table).max():
        return "all scores are equal: there is no variance to take apart"
    return ""


def _components(table: NDArray[np.float64]) -> tuple[Component, ...]:
    num_seeds, num_images, num_repeats = table.shape
    seed, image, both, rest = _mean_squares(table)
    size = (num_seeds, num_images)
    lines = [
        _difference("seed", seed, both, num_images * num_repeats, size),
        _difference("image", image, both, num_seeds * num_repeats, size),
    ]
    if rest is None:
        once = Unknown("one score per seed and image: part of the rest")
        both_line = Component("seed x image", once, once, once.reason)
        return (*lines, both_line, _alone(both, size, "contains seed x image"))
    return (*lines, _difference("seed x image", both, rest, num_repeats, size), _alone(rest, size))


def _mean_squares(
    table: NDArray[np.float64],
) -> tuple[_MeanSquare, _MeanSquare, _MeanSquare, _MeanSquare | None]:
    """Those of seed, image, seed x image and, with repeats, the rest."""
    num_seeds, num_images, num_repeats = table.shape
    cells, mean = table.mean(axis=2), table.mean()
    by_seed, by_image = cells.mean(axis=1), cells.mean(axis=0)
    left = cells - by_seed[:, None] - by_image + mean

    def mean_square(deviations: NDArray[np.float64], times: int, freedom: int) -> _MeanSquare:
        return _MeanSquare(times * float((deviations**2).sum()) / freedom, freedom)

    return (
        mean_square(by_seed - mean, num_images * num_repeats, num_seeds - 1),
        mean_square(by_image - mean, num_seeds * num_repeats, num_images - 1),
        mean_square(left, num_repeats, (num_seeds - 1) * (num_images - 1)),
        mean_square(table - cells[:, :, None], 1, num_seeds * num_images * (num_repeats - 1))
        if num_repeats > 1
        else None,
    )


def _alone(rest: _MeanSquare, size: tuple[int, int], note: str = "") -> Component:
    """A mean square that is itself an estimate: n s^2 / variance is chi-square with n degrees."""
    n, tail = rest.freedom, (1 - LEVEL) / 2
    variance = Interval(
        rest.value,
        n * rest.value / float(special.chdtri(n, tail)),
        n * rest.value / float(special.chdtri(n, 1 - tail)),
        rest.value * math.sqrt(2 / n),
        n,
        LEVEL,
        *size,
        OTHER_SEEDS_AND_IMAGES,
    )
    return Component("rest", rest.value, variance, note)


def _difference(
    name: str, first: _MeanSquare, second: _MeanSquare, times: int, size: tuple[int, int]
) -> Component:
    """(first - second) / times, with the modified large-sample interval."""
    low, high = modified_large_sample(first.value, first.freedom, second.value, second.freedom)
    error = math.sqrt(2 * (first.value**2 / first.freedom + second.value**2 / second.freedom))
    variance = Interval(
        (first.value - second.value) / times,
        low / times,
        high / times,
        error / times,
        first.freedom,
        LEVEL,
        *size,
        OTHER_SEEDS_AND_IMAGES,
    )
    note = ""
    if variance.high < 0:
        note = "below 0 by more than chance: scores of one line or column may not be independent"
    elif variance.estimate < 0:
        note = "below 0: consistent with 0"
    elif variance.low <= 0:
        note = "consistent with 0"
    return Component(name, first.value, variance, note)


def modified_large_sample(a: float, n: int, b: float, m: int) -> tuple[float, float]:
    """The interval of E[a] - E[b] for independent mean squares of n and m degrees of freedom.

    With F(q; i, j) the point that F exceeds with probability q, and q = (1 - LEVEL) / 2:

        low  = a - b - sqrt(G1^2 a^2 + H2^2 b^2 + G12 a b)
        high = a - b + sqrt(H1^2 a^2 + G2^2 b^2 + H12 a b)

        G1 = 1 - 1/F(q; n, inf)    H1 = 1/F(1-q; n, inf) - 1    (G2, H2 likewise with m)
        G12 = ((F - 1)^2 - G1^2 F^2 - H2^2) / F     with F = F(q; n, m)
        H12 = ((1 - F)^2 - H1^2 F^2 - G2^2) / F     with F = F(1-q; n, m)
    """
    (g1, g2), (h1, h2), (g12, h12) = _coefficients(n, m)
    below = g1**2 * a**2 + h2**2 * b**2 + g12 * a * b
    above = h1**2 * a**2 + g2**2 * b**2 + h12 * a * b
    return a - b - math.sqrt(below), a - b + math.sqrt(above)


@cache
def _coefficients(n: int, m: int) -> tuple[tuple[float, float], ...]:
    """G1 and G2, H1 and H2, G12 and H12; a table asks for the same few degrees of freedom."""
    q = (1 - LEVEL) / 2
    g1, g2 = (1 - d / float(special.chdtri(d, q)) for d in (n, m))
    h1, h2 = (d / float(special.chdtri(d, 1 - q)) - 1 for d in (n, m))
    f = float(special.fdtri(n, m, 1 - q))
    g12 = ((f - 1) ** 2 - g1**2 * f**2 - h2**2) / f
    f = float(special.fdtri(n, m, q))
    h12 = ((1 - f) ** 2 - h1**2 * f**2 - g2**2) / f
    return (g1, g2), (h1, h2), (g12, h12)


def as_rows(components: Sequence[Component]) -> tuple[dict[str, str | float], ...]:
    """The lines as a CSV has them; an empty cell where there is no number, and `note` says why."""
    return tuple(_row(component) for component in components)


def _row(component: Component) -> dict[str, str | float]:
    row: dict[str, str | float] = dict.fromkeys(COLUMNS, "")
    row["component"], row["note"] = component.name, component.note
    if isinstance(component.variance, Interval):
        row["variance"] = component.variance.estimate
        row["low"], row["high"] = component.variance.low, component.variance.high
        row["standard_error"] = component.variance.standard_error
        row["degrees_of_freedom"] = component.variance.degrees_of_freedom
    if not isinstance(component.mean_square, Unknown):
        row["mean_square"] = component.mean_square
    return row
