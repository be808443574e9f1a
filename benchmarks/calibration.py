"""Whether the intervals and verdicts of orchestrator.statistics keep their error rates.

`python benchmarks/calibration.py [--families N] [--seed-sd DB] [--image-sd DB] ...`: simulates
sweeps of known truth, 4 norms in 4 cells (sizes, for example), at 2, 3 and 5 seeds on 5 and 100
images, and prints for each how often 95 % intervals hold the true difference, how many families of
equal norms get a wrong verdict, and how often a difference of 0.05 and 0.1 dB is found.

The standard deviations are those of the *difference* of two norms. Their defaults are what two long
trainings may differ by: 0.03 dB between seeds, 0.05 dB between images, and 0.015 dB each for seed x
image and the rest. docs/results/calibration.md has those measured in short ones as well.

Noise: "normal"; "heavy", every effect from t with 3 degrees of freedom, scaled; and "unequal",
normal with another variance between seeds for each norm in each cell (6 / chi^2(6) times the mean).

"alone" takes a cell's own seeds, "pooled" moderates their variance by the other cells. With
`--own-cell`, pairs of the set of the best are moderated as in orchestrator.report.contrasts, that
is, also by their own cell's norms that are not in the pair.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.statistics.crossed import other_seeds_and_images
from orchestrator.statistics.decisions import p_differs
from orchestrator.statistics.interval import Interval
from orchestrator.statistics.moderation import Prior, prior_from
from orchestrator.statistics.multiplicity import best_set, holm
from orchestrator.statistics.paired import other_seeds, seed_variance

Noise = Literal["normal", "heavy", "unequal"]
Values = NDArray[np.float64]

NORMS = 4
CELLS = 4
SCOPES = {"seeds": other_seeds, "seeds, images": other_seeds_and_images}
BAND = (0.93, 0.97)
MOST_WRONG = 0.05


@dataclass(frozen=True)
class Truth:
    """Standard deviations of the difference of two norms, in dB."""

    seed: float = 0.03
    image: float = 0.05
    interaction: float = 0.015
    rest: float = 0.015


@dataclass
class Counts:
    """What happened over the families of one setting, for one scope and one way of estimating."""

    covered: list[bool] = field(default_factory=list)
    told_apart: list[bool] = field(default_factory=list)
    left_out: list[bool] = field(default_factory=list)
    found: dict[float, list[bool]] = field(default_factory=lambda: {0.05: [], 0.1: []})
    half_widths: list[float] = field(default_factory=list)


def effects(
    rng: np.random.Generator, truth: Truth, noise: Noise, seeds: int, images: int
) -> tuple[Values, Values]:
    """The scores of equal norms, (cells, norms, seeds, images), and their images' part.

    Each norm has half of the variance of a difference; what all norms share would cancel.
    """

    def drawn(sd: float, *shape: int) -> Values:
        if noise == "heavy":
            return sd / np.sqrt(2 * 3) * rng.standard_t(3, (CELLS, NORMS, *shape))
        return sd / np.sqrt(2) * rng.standard_normal((CELLS, NORMS, *shape))

    of_seeds = drawn(truth.seed, seeds, 1)
    if noise == "unequal":
        of_seeds = of_seeds * np.sqrt(6 / rng.chisquare(6, (CELLS, NORMS, 1, 1)))
    of_images = drawn(truth.image, 1, images)
    rest = drawn(truth.interaction, seeds, images) + drawn(truth.rest, seeds, images)
    return of_seeds + of_images + rest, of_images


def pool_of(tables: list[Values]) -> Prior | None:
    """The prior from other cells' tables of differences."""
    pool = [seed_variance(table) for table in tables]
    prior = prior_from([variance for variance, _ in pool], [degrees for _, degrees in pool])
    return prior if isinstance(prior, Prior) else None


def judge(
    scores: Values,
    of_images: Values,
    scope: str,
    pooled: bool,
    counts: Counts,
    own_cell: bool = False,
) -> None:
    """Adds one family to the counts: all its norms are equal, the first is the baseline."""
    estimate = SCOPES[scope]
    if scope == "seeds":  # these images: what they do to a norm is part of its true score
        scores = scores - of_images.mean(axis=(2, 3), keepdims=True)
    cells = [
        [scores[cell, norm] - scores[cell, 0] for norm in range(1, NORMS)] for cell in range(CELLS)
    ]
    tables = [table for cell in cells for table in cell]
    intervals = []
    for i, table in enumerate(tables):
        prior = pool_of(tables[:i] + tables[i + 1 :]) if pooled else None
        intervals.append(known(estimate(table, prior=prior)))
    p_values = holm([p_differs(interval) for interval in intervals])
    counts.told_apart.append(min(p_values) < MOST_WRONG)
    counts.covered += [interval.low <= 0 <= interval.high for interval in intervals]
    counts.half_widths += [(interval.high - interval.low) / 2 for interval in intervals]
    for difference, found in counts.found.items():
        found += [interval.low + difference > 0 for interval in intervals]
    counts.left_out.append(
        any(leaves_out(scores, cells, cell, scope, pooled, own_cell) for cell in range(CELLS))
    )


def leaves_out(
    scores: Values,
    cells: list[list[Values]],
    cell: int,
    scope: str,
    pooled: bool,
    own_cell: bool = False,
) -> bool:
    """Whether the set of the best of this cell leaves out any of the equal norms."""
    others = [table for i, tables in enumerate(cells) if i != cell for table in tables]
    differences = {}
    for a, b in itertools.combinations(range(NORMS), 2):
        own = [cells[cell][norm - 1] for norm in range(1, NORMS) if own_cell and norm not in (a, b)]
        prior = pool_of(others + own) if pooled else None
        difference = scores[cell, a] - scores[cell, b]
        differences[str(a), str(b)] = SCOPES[scope](difference, prior=prior)
    names = [str(norm) for norm in range(NORMS)]
    return len(best_set(names, differences, sets=CELLS).members) < NORMS


def known(found: object) -> Interval:
    assert isinstance(found, Interval), found
    return found


@dataclass(frozen=True)
class Row:
    """One line of the table; rates between 0 and 1, the half width in dB is the median."""

    noise: Noise
    seeds: int
    images: int
    scope: str
    way: str
    coverage: float
    told_apart: float
    left_out: float
    power: tuple[float, float]
    half_width: float

    def __str__(self) -> str:
        numbers = (self.coverage, self.told_apart, self.left_out, *self.power)
        columns = " | ".join(f"{100 * number:.1f}" for number in numbers)
        return (
            f"| {self.noise} | {self.seeds} | {self.images} | {self.scope} | {self.way} | "
            f"{columns} | {self.half_width:.3f} |"
        )

    def problems(self, families: int) -> Iterator[str]:
        """What does not hold, beyond two standard errors of the simulation."""
        setting = (
            f"{self.noise}, {self.seeds} seeds, {self.images} images, {self.scope}, {self.way}"
        )
        doubt = 2 * np.sqrt(0.05 * 0.95 / (families * CELLS))  # a cell's differences are dependent
        if not BAND[0] - doubt <= self.coverage <= BAND[1] + doubt:
            yield f"{setting}: coverage {100 * self.coverage:.1f} %"
        doubt = 2 * np.sqrt(MOST_WRONG * (1 - MOST_WRONG) / families)
        if max(self.told_apart, self.left_out) > MOST_WRONG + doubt:
            wrong = f"{100 * self.told_apart:.1f} and {100 * self.left_out:.1f} %"
            yield f"{setting}: wrong families {wrong}"


HEADER = (
    "| noise | seeds | images | other | variance | coverage % | told apart % | left out % | "
    "0.05 dB found % | 0.1 dB found % | half width dB |\n" + "|---" * 11 + "|"
)


def calibrate(
    truth: Truth,
    noise: Noise,
    seeds: int,
    images: int,
    families: int,
    seed: int,
    own_cell: bool = False,
) -> list[Row]:
    """The rows of one setting: two scopes, alone and pooled, on the same simulated sweeps."""
    rng = np.random.default_rng(seed)
    ways = list(itertools.product(SCOPES, (False, True)))
    counts = {way: Counts() for way in ways}
    for _ in range(families):
        scores, of_images = effects(rng, truth, noise, seeds, images)
        for scope, pooled in ways:
            judge(scores, of_images, scope, pooled, counts[scope, pooled], own_cell)
    return [
        Row(
            noise,
            seeds,
            images,
            scope,
            "pooled" if pooled else "alone",
            float(np.mean(counts[scope, pooled].covered)),
            float(np.mean(counts[scope, pooled].told_apart)),
            float(np.mean(counts[scope, pooled].left_out)),
            (
                float(np.mean(counts[scope, pooled].found[0.05])),
                float(np.mean(counts[scope, pooled].found[0.1])),
            ),
            float(np.median(counts[scope, pooled].half_widths)),
        )
        for scope, pooled in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--families", type=int, default=200, help="simulated sweeps per setting")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation")
    parser.add_argument("--seed-sd", type=float, default=Truth.seed)
    parser.add_argument("--image-sd", type=float, default=Truth.image)
    parser.add_argument("--interaction-sd", type=float, default=Truth.interaction)
    parser.add_argument("--rest-sd", type=float, default=Truth.rest)
    parser.add_argument(
        "--own-cell", action="store_true", help="pool as the report does: see above"
    )
    given = parser.parse_args()
    truth = Truth(given.seed_sd, given.image_sd, given.interaction_sd, given.rest_sd)
    print(f"{truth}, in dB; {given.families} families of {NORMS} norms in {CELLS} cells each\n")
    print(HEADER)
    problems: list[str] = []
    noises: tuple[Noise, ...] = ("normal", "heavy", "unequal")
    for noise, seeds, images in itertools.product(noises, (2, 3, 5), (5, 100)):
        setting = (noise, seeds, images, given.families, given.seed, given.own_cell)
        for row in calibrate(truth, *setting):
            print(row, flush=True)
            problems += row.problems(given.families)
    print(
        f"\nOutside {BAND[0]:.0%} to {BAND[1]:.0%}, or more than {MOST_WRONG:.0%} of families "
        "wrong, beyond chance:",
        *(f"- {problem}" for problem in problems or ["nothing"]),
        sep="\n",
    )


if __name__ == "__main__":
    main()
