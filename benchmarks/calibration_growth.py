"""How often intervals and verdicts on growth, size and variances are right when truth is known.

`python benchmarks/calibration_growth.py [CASES]` simulates CASES sweeps (default 2,000) for each
line of its tables, always the same ones. 95 % intervals should contain the truth in 93 to 97 of 100
cases, or more with heavy tails, and a wrong verdict should come in at most 5. With 2,000 cases a
share of 95 % is known to within 1 %.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import numpy as np

from orchestrator.statistics.components import variance_components
from orchestrator.statistics.correlation import Size, trend
from orchestrator.statistics.growth import MARGIN, Trace, growth
from orchestrator.statistics.interval import Interval, Unknown

CASES = 2_000
END, POINTS = 6_000, 60
# Between trainings of one recipe, as far as we have seen: the slopes of layer_norm differ by 0.1,
# log10 growth by 0.1 between seeds and by 0.3 between sizes that no line explains.
SLOPE_SD, SEED_SD, SIZE_SD = 0.1, 0.1, 0.3
STEPS = tuple(range(0, END + 1, END // POINTS))


def noise(dice: np.random.Generator, shape: tuple[int, ...], tails: str) -> np.ndarray:
    """Of variance 1: normal, or Student's t with 3 degrees of freedom."""
    if tails == "normal":
        return dice.standard_normal(shape)
    return dice.standard_t(3, shape) / math.sqrt(3)


def wandering(dice: np.random.Generator, phi: float, sd: float) -> np.ndarray:
    """An autoregression of order one with that deviation: how a trace strays from its line."""
    found = [dice.standard_normal() * sd]
    for step in dice.standard_normal(POINTS) * sd * math.sqrt(1 - phi**2):
        found.append(phi * found[-1] + step)
    return np.array(found)


def trace(dice: np.random.Generator, seed: int, slope: float, phi: float, sd: float) -> Trace:
    """m = 3 t^slope, straying."""
    line = slope * np.log(np.maximum(STEPS, 1)) + wandering(dice, phi, sd)
    return Trace(seed, STEPS, (tuple(3 * np.exp(line)),))


def slope_cases(
    dice: np.random.Generator, cases: int, *, seeds: int, tails: str, phi: float, truth: float
) -> tuple[float, float]:
    """The shares of intervals that hold the true slope, and of verdicts other than undecided."""
    held = decided = 0
    for _ in range(cases):
        slopes = truth + SLOPE_SD * noise(dice, (seeds,), tails)
        found = growth([trace(dice, s, b, phi, 0.1) for s, b in enumerate(slopes)], END)
        assert isinstance(found.slope, Interval)
        held += found.slope.low <= truth <= found.slope.high
        decided += found.verdict != "undecided"
    return held / cases, decided / cases


def diverging_cases(
    dice: np.random.Generator, cases: int, *, seeds: int, share: float, truth: float
) -> tuple[float, float]:
    """The shares of the verdicts bounded and growing where a share of trainings diverges."""
    bounded = growing = 0
    for _ in range(cases):
        slopes = truth + SLOPE_SD * dice.standard_normal(seeds)
        traces = []
        for seed, slope in enumerate(slopes):
            whole = trace(dice, seed, slope, 0.9, 0.1)
            if dice.random() < share:
                whole = Trace(seed, whole.steps[:9], (whole.groups[0][:9],), diverged_at=STEPS[8])
            traces.append(whole)
        verdict = growth(traces, END).verdict
        bounded += verdict == "bounded"
        growing += verdict == "growing"
    return bounded / cases, growing / cases


def trend_cases(
    dice: np.random.Generator,
    cases: int,
    *,
    seeds: tuple[int, ...],
    size_sd: float,
    tails: str,
    shared: float = 0.0,
    infinite: float = 0.0,
    truth: float = 0.0,
) -> tuple[float, float, float]:
    """The shares of intervals that hold the true slope (NaN if none), of p <= 0.05, and of
    verdicts. `shared` is the deviation of an effect that a seed has on all sizes alike."""
    held = intervals = small = decided = 0
    widths = 12.0 * 1.5 ** np.arange(len(seeds))
    for _ in range(cases):
        own = truth * np.log10(widths) + size_sd * noise(dice, (len(seeds),), tails)
        of_seed = shared * dice.standard_normal(max(seeds))
        sizes = []
        for width, middle, count in zip(widths, own, seeds, strict=True):
            values = middle + of_seed[:count] + SEED_SD * noise(dice, (count,), tails)
            values[dice.random(count) < infinite] = math.inf
            sizes.append(Size(float(width), tuple(values.tolist())))
        found = trend(sizes)
        if isinstance(found.slope, Interval):
            intervals += 1
            held += found.slope.low <= truth <= found.slope.high
        small += not isinstance(found.p, Unknown) and found.p <= 0.05
        decided += found.verdict != "undecided"
    return held / intervals if intervals else math.nan, small / cases, decided / cases


def component_cases(
    dice: np.random.Generator,
    cases: int,
    *,
    shape: tuple[int, int, int],
    variances: tuple[float, float, float, float],
) -> tuple[float, ...]:
    """The shares of intervals that hold the true variance, in the order of NAMES; NaN if none."""
    num_seeds, num_images, num_repeats = shape
    of_seed, of_image, of_both, of_rest = np.sqrt(variances)
    held = np.zeros(4)
    for _ in range(cases):
        scores = (
            of_seed * dice.standard_normal((num_seeds, 1, 1))
            + of_image * dice.standard_normal((1, num_images, 1))
            + of_both * dice.standard_normal((num_seeds, num_images, 1))
            + of_rest * dice.standard_normal(shape)
        )
        found = variance_components(scores)
        assert not isinstance(found, Unknown)
        for i, (line, truth) in enumerate(zip(found, variances, strict=True)):
            if num_repeats == 1 and i == 3:
                truth += variances[2]
            if isinstance(line.variance, Unknown):
                held[i] = math.nan
            else:
                held[i] += line.variance.low <= truth <= line.variance.high
    return tuple((held / cases).tolist())


def lines(cases: int) -> Iterator[str]:
    dice = np.random.default_rng(18)
    yield f"slope over the last half: true slope at the margin ({MARGIN:g}), its worst case"
    yield "  seeds  tails    phi   interval holds   wrong verdict"
    for seeds in (2, 3, 5):
        for tails in ("normal", "t(3)"):
            for phi in (0.0, 0.95):
                held, wrong = slope_cases(
                    dice, cases, seeds=seeds, tails=tails, phi=phi, truth=MARGIN
                )
                yield f"  {seeds:5}  {tails:7} {phi:4}   {held:14.1%}   {wrong:13.1%}"
    yield "\nverdict by true slope, normal, phi 0.95"
    yield "  seeds  slope   decided"
    for seeds in (2, 3, 5):
        for truth in (0.0, 0.25, 0.75, 1.0):
            _, decided = slope_cases(
                dice, cases // 4, seeds=seeds, tails="normal", phi=0.95, truth=truth
            )
            yield f"  {seeds:5}  {truth:5}   {decided:7.1%}"
    yield "\nwhere a share of trainings diverges, the others with slope 0 (bounded) or the margin"
    yield "  seeds  share   slope   bounded   growing"
    for seeds in (2, 3, 5, 8):
        for share, truth in ((0.05, 0.0), (0.05, MARGIN), (0.3, 0.0), (0.8, 0.0)):
            bounded, growing = diverging_cases(
                dice, cases // 2, seeds=seeds, share=share, truth=truth
            )
            yield f"  {seeds:5}  {share:5}   {truth:5}   {bounded:7.1%}   {growing:7.1%}"
    yield from trend_lines(dice, cases)
    yield from component_lines(dice, cases)


def trend_lines(dice: np.random.Generator, cases: int) -> Iterator[str]:
    yield "\ngrowth against size: no relation"
    yield "  seeds per size         size sd  tails    seed's own  infinite   holds  p<=5%  decided"
    settings = [
        ((seeds,) * sizes, sd, tails, 0.0, 0.0)
        for sizes in (3, 4, 5, 6)
        for seeds in (1, 3, 5)
        for sd in (0.0, SIZE_SD)
        for tails in ("normal", "t(3)")
    ]
    uneven = ((1, 5, 5), (5, 1, 3, 2), (1, 2, 3, 4, 5), (5, 5, 1, 1, 3, 3))
    settings += [(seeds, 0.0, "normal", 0.0, 0.0) for seeds in uneven]
    settings += [((3,) * sizes, 0.0, "normal", 0.5, 0.0) for sizes in (3, 4, 6)]
    settings += [
        ((seeds,) * sizes, SIZE_SD, "normal", 0.0, share)
        for sizes in (4, 5, 6)
        for seeds in (1, 3)
        for share in (0.05, 0.3)
    ]
    for seeds, sd, tails, shared, infinite in settings:
        held, small, decided = trend_cases(
            dice,
            cases,
            seeds=seeds,
            size_sd=sd,
            tails=tails,
            shared=shared,
            infinite=infinite,
        )
        yield (
            f"  {seeds!s:22} {sd:7}  {tails:7}  {shared:10}  {infinite:8}"
            f"  {held:6.1%} {small:6.1%}  {decided:7.1%}"
        )
    yield "\ngrowth ~ width^2, size sd 0.1: verdicts"
    for sizes in (3, 4, 5, 6):
        held, small, decided = trend_cases(
            dice, cases // 4, seeds=(3,) * sizes, size_sd=0.1, tails="normal", truth=2.0
        )
        shares = f"holds {held:.1%}, p<=5% {small:.1%}, rises {decided:.1%}"
        yield f"  {sizes} sizes of 3 seeds: {shares}"


def component_lines(dice: np.random.Generator, cases: int) -> Iterator[str]:
    yield "\nvariance components: intervals that hold the truth"
    yield "  seeds, images, repeats  true variances             seed   image    both    rest"
    for shape in ((2, 5, 2), (3, 5, 2), (5, 100, 2), (3, 24, 1), (5, 100, 1)):
        for variances in (
            (0.001, 4.0, 0.002, 0.001),
            (0.0, 4.0, 0.002, 0.001),
            (1.0, 1.0, 1.0, 1.0),
        ):
            held = component_cases(dice, cases, shape=shape, variances=variances)
            shares = "".join(f" {share:7.1%}" for share in held)
            yield f"  {shape!s:22}  {variances!s:26}{shares}"


if __name__ == "__main__":
    for line in lines(int(sys.argv[1]) if len(sys.argv) > 1 else CASES):
        print(line, flush=True)
