"""Intervals for other seeds and other images: which candidate covers the truth as often as it says.

`python benchmarks/crossed_intervals.py [DATASETS]`: simulates tables of differences (seeds, images)
with crossed random effects and prints, per candidate, how often a 95 % interval holds the true
difference, and its median half width. docs/decisions/0019 rests on this table.

The candidates: the analysis of variance with Satterthwaite's degrees of freedom, with Cochran and
Cox's (1957) weighted quantile, and with Banerjee's (1961) sum of squares; and Owen's (2007, Ann.
Appl. Stat. 1:386) pigeonhole bootstrap, which draws seeds and images with replacement and
independently, once with percentiles and once with its standard error and a normal quantile. "ours"
is orchestrator.statistics.crossed.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
from numpy.typing import NDArray
from scipy import special

from orchestrator.statistics.crossed import other_seeds_and_images
from orchestrator.statistics.interval import Interval

Values = NDArray[np.float64]

IMAGE_SD, REST_SD = 0.05, 0.02  # dB, placeholders as in calibration.py
SEED_SDS = (0.01, 0.03, 0.1)
RESAMPLES = 400


def tables(
    rng: np.random.Generator, heavy: bool, seed_sd: float, shape: tuple[int, int, int]
) -> Values:
    """Differences (datasets, seeds, images) around a true difference of zero."""
    count, seeds, images = shape

    def drawn(sd: float, *shape: int) -> Values:
        if heavy:
            return sd / np.sqrt(3) * rng.standard_t(3, shape)
        return sd * rng.standard_normal(shape)

    effects = drawn(seed_sd, count, seeds, 1) + drawn(IMAGE_SD, count, 1, images)
    return effects + drawn(REST_SD, count, seeds, images)


def analysis_of_variance(data: Values) -> dict[str, tuple[Values, Values]]:
    """Low and high by Satterthwaite's, by Cochran and Cox's and by Banerjee's method."""
    _, seeds, images = data.shape
    rows, columns, mean = data.mean(axis=2), data.mean(axis=1), data.mean(axis=(1, 2))
    rest = data - rows[:, :, None] - columns[:, None, :] + mean[:, None, None]
    degrees = np.array([seeds - 1, images - 1, (seeds - 1) * (images - 1)])
    squares = np.stack(
        [
            images * rows.var(axis=1, ddof=1),
            seeds * columns.var(axis=1, ddof=1),
            (rest**2).sum(axis=(1, 2)) / degrees[2],
        ]
    )
    of_images = np.maximum(0, squares[1] - squares[2])
    variance = (squares[0] + of_images) / (seeds * images)
    satterthwaite = (squares[0] + of_images) ** 2 / (squares**2 / degrees[:, None]).sum(axis=0)
    quantiles = special.stdtrit(degrees[:2].astype(float), 0.975)
    weighted = (squares[0] * quantiles[0] + of_images * quantiles[1]) / (squares[0] + of_images)
    halves = {
        "Satterthwaite": special.stdtrit(satterthwaite, 0.975) * np.sqrt(variance),
        "Cochran and Cox": weighted * np.sqrt(variance),
        "Banerjee": np.sqrt(
            (squares[0] * quantiles[0] ** 2 + of_images * quantiles[1] ** 2) / (seeds * images)
        ),
    }
    return {name: (mean - half, mean + half) for name, half in halves.items()}


def pigeonhole(rng: np.random.Generator, data: Values) -> dict[str, tuple[Values, Values]]:
    """Low and high by resampling; all data sets share the draws, which changes no rate."""
    _, seeds, images = data.shape
    rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    columns = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES) / images
    means = np.einsum("nsb,bs->nb", data @ columns.T, rows)
    mean, half = data.mean(axis=(1, 2)), 1.96 * means.std(axis=1, ddof=1)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return {
        "pigeonhole, percentiles": (low, high),
        "pigeonhole, normal": (mean - half, mean + half),
    }


def ours(data: Values) -> dict[str, tuple[Values, Values]]:
    found = [other_seeds_and_images(table) for table in data]
    intervals = [interval for interval in found if isinstance(interval, Interval)]
    assert len(intervals) == len(found)
    low = np.array([interval.low for interval in intervals])
    return {"ours": (low, np.array([interval.high for interval in intervals]))}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rng = np.random.default_rng(19)
    error = 100 * np.sqrt(0.05 * 0.95 / count)
    print(f"coverage in % (half width in dB); {count} data sets each, standard error {error:.1f} %")
    settings = itertools.product((False, True), (2, 3, 5), (5, 100), SEED_SDS)
    for line, (heavy, seeds, images, seed_sd) in enumerate(settings):
        data = tables(rng, heavy, seed_sd, (count, seeds, images))
        found = {**ours(data), **analysis_of_variance(data), **pigeonhole(rng, data)}
        if not line:
            print("| noise | seeds | images | seed sd |", *(f"{name} |" for name in found))
            print("|---" * (4 + len(found)) + "|")
        cells = [
            f"{100 * np.mean((low <= 0) & (high >= 0)):.1f} ({np.median(high - low) / 2:.3f}) |"
            for low, high in found.values()
        ]
        noise = "heavy" if heavy else "normal"
        print(f"| {noise} | {seeds} | {images} | {seed_sd} |", *cells, flush=True)


if __name__ == "__main__":
    main()
