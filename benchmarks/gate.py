"""How often the gate of `normsweep regress` raises a false alarm, and how soon it sees a drop.

`python benchmarks/gate.py [--half-years N] [--seeds S] [--questions Q]`: simulates half-years of
200 nights, each of which draws anew from the noise of seeds, and prints false alarms, the drops
that are caught within three nights, and what slow decay comes to before it is seen. Without
`--seeds`, the fewest are taken at which 95 % of drops of the margin are caught.

`--store runs --file sweep.yaml [--norms i_ln layer_norm]` measures the variance of a difference of
two norms in trained trials and writes it to gate_components.json, where the simulation reads it.

A gate asks Q questions, of as many candidates. "all anew": the baseline is trained anew every
night as well, as after a change of torch. "kept": it is the same all half-year, and its noise is in
every look. Each norm has half of the variance of a difference. Noise is "normal", or "heavy": t
with 5 degrees of freedom. `verdicts` is the arithmetic of orchestrator.regression.judging for many
half-years at once; tests/unit/test_gate_rates.py holds one against the other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from orchestrator.plan.gate import Gate
from orchestrator.statistics.spending import WINDOWS, share

Noise = Literal["normal", "heavy"]
Way = Literal["chosen", "5 % each night", "looks pooled"]
Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

COMPONENTS = Path(__file__).with_name("gate_components.json")
GATE = Gate(baseline="layer_norm")
NIGHTS = 200
QUIET = 20  # nights without a change before a drop
SOON = 3  # nights
MOST_FALSE, LEAST_CAUGHT = 0.05, 0.95
MOST_SEEDS = 60
DECAY = 0.002  # dB per night


@dataclass(frozen=True)
class World:
    """What a half-year is drawn from: the deviation in dB of a difference between seeds."""

    sd: float
    seeds: int
    questions: int = 1
    noise: Noise = "normal"
    kept: bool = False

    def __str__(self) -> str:
        return f"{'kept' if self.kept else 'all anew'} | {self.noise}"


def drawn(rng: np.random.Generator, world: World, half_years: int, nights: int) -> Values:
    """Differences in dB without a change: (half-years, nights, questions, seeds)."""

    def noise(*shape: int) -> Values:
        if world.noise == "heavy":
            return rng.standard_t(5, shape) / math.sqrt(5 / 3)
        return rng.standard_normal(shape)

    candidates = noise(half_years, nights, world.questions, world.seeds)
    baseline = noise(half_years, 1 if world.kept else nights, 1, world.seeds)
    return world.sd / math.sqrt(2) * (candidates - baseline)


def verdicts(
    values: Values, gate: Gate = GATE, last: int | None = None, way: Way = "chosen"
) -> tuple[Flags, Flags]:
    """Which questions fail and which pass on the `last` nights: (half-years, last, questions).

    The p-values of all windows, by Bonferroni over windows and Holm over questions, against what
    the look may spend. `way` other than "chosen" is for comparison: without spending, or with the
    variance of a look pooled over all looks so far as if they were independent.
    """
    nights, seeds = values.shape[1], values.shape[3]
    first = nights - (last or nights)
    numbers = np.arange(first + 1, nights + 1)
    sums = np.concatenate([np.zeros_like(values[:, :1]), values.cumsum(axis=1)], axis=1)
    pooled = values.var(axis=3, ddof=1).cumsum(axis=1)[:, first:] / numbers[:, None]
    smallest = np.full((len(values), nights - first, values.shape[2]), math.inf)
    filled = np.zeros(nights - first)
    for window in WINDOWS:
        begin = max(first, window - 1)  # the first night on which the window is filled
        if begin >= nights:
            break
        means = (sums[:, begin + 1 :] - sums[:, begin + 1 - window : nights + 1 - window]) / window
        if way == "looks pooled":
            error = np.sqrt(pooled[:, begin - first :] / (seeds * window))
            degrees = numbers[begin - first :, None] * (seeds - 1.0)
        else:
            error = means.std(axis=3, ddof=1) / math.sqrt(seeds)
            degrees = np.array(seeds - 1.0)
        p = special.stdtr(degrees, means.mean(axis=3) / error)
        smallest[:, begin - first :] = np.minimum(smallest[:, begin - first :], p)
        filled[begin - first :] += 1
    if way == "5 % each night":
        p, level = smallest, np.full(nights - first, gate.error_rate)
    else:
        p = np.minimum(1.0, filled[:, None] * smallest)
        level = np.array([share(int(k), gate.error_rate, gate.looks) for k in numbers])
    passes = lowest(values[:, first:]) > -(gate.margin or 0.0)
    return (holm_over_questions(p) <= level[:, None]) & ~passes, passes


def lowest(values: Values) -> Values:
    """The lower limit of the 95 % interval of each night, for other seeds."""
    seeds = values.shape[-1]
    half = special.stdtrit(seeds - 1, 0.975) * values.std(axis=-1, ddof=1) / math.sqrt(seeds)
    return np.asarray(values.mean(axis=-1) - half)


def holm_over_questions(p: Values) -> Values:
    """Holm's adjusted p-values along the last axis."""
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, axis=-1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(steps, axis=-1), axis=-1)
    return np.asarray(np.minimum(1.0, adjusted))


def batches(half_years: int, at_a_time: int = 50) -> Iterator[int]:
    for start in range(0, half_years, at_a_time):
        yield min(at_a_time, half_years - start)


def unchanged(
    world: World, half_years: int, seed: int, gate: Gate = GATE, way: Way = "chosen"
) -> tuple[int, float]:
    """Half-years without a change that see any false alarm; the share of questions that pass."""
    rng = np.random.default_rng(seed)
    alarmed, passed = 0, 0.0
    for size in batches(half_years):
        fails, passes = verdicts(drawn(rng, world, size, NIGHTS), gate, way=way)
        alarmed += int(fails.any(axis=(1, 2)).sum())
        passed += float(passes.mean(axis=(1, 2)).sum())
    return alarmed, passed / half_years


def caught(
    world: World,
    half_years: int,
    seed: int,
    drop: float = 0.1,
    gate: Gate = GATE,
    at_start: bool = False,
) -> float:
    """The share of drops (dB) of one question that are seen within three nights.

    A drop begins on the first night, or on any after 20; half-years come in small groups with the
    same beginning.
    """
    rng = np.random.default_rng(seed)
    found = 0
    for size in batches(half_years, 10):
        before = 0 if at_start else int(rng.integers(QUIET, NIGHTS - SOON + 1))
        values = drawn(rng, world, size, before + SOON)
        values[:, before:, 0] -= drop
        fails, _ = verdicts(values, gate, last=SOON)
        found += int(fails[:, :, 0].any(axis=1).sum())
    return found / half_years


def decayed(world: World, half_years: int, seed: int) -> Values:
    """Nights of slow decay until it is seen, sorted; infinite if it is not within the half-year."""
    rng = np.random.default_rng(seed)
    nights: list[float] = []
    slope = DECAY * np.maximum(0, np.arange(NIGHTS) - QUIET + 1)
    for size in batches(half_years):
        values = drawn(rng, world, size, NIGHTS)
        values[:, :, 0] -= slope[:, None]
        fails, _ = verdicts(values)
        seen = fails[:, QUIET:, 0]
        nights += np.where(seen.any(axis=1), seen.argmax(axis=1) + 1.0, math.inf).tolist()
    return np.sort(np.array(nights))


def worlds(sd: float, seeds: int, questions: int) -> Iterator[World]:
    noises: tuple[Noise, ...] = ("normal", "heavy")
    for kept, noise in itertools.product((False, True), noises):
        yield World(sd, seeds, questions, noise, kept)


def enough_seeds(
    sd: float, questions: int, half_years: int, drop: float, gate: Gate, least: int
) -> int:
    """The fewest seeds at which 95 % of drops (dB) are caught in every world; prints the search."""
    columns = [
        f"{world}, night {night}".replace(" | ", ", ")
        for world in worlds(sd, least, questions)
        for night in ("over 20", "1")
    ]
    print(f"| seeds | {' | '.join(columns)} |\n{'|---' * (len(columns) + 1)}|")
    for seeds in range(least, MOST_SEEDS + 1):
        shares = [
            caught(world, half_years, seeds, drop, gate, at_start)
            for world in worlds(sd, seeds, questions)
            for at_start in (False, True)
        ]
        print(f"| {seeds} | {' | '.join(f'{100 * one:.1f}' for one in shares)} |", flush=True)
        if min(shares) >= LEAST_CAUGHT:
            return seeds
    raise SystemExit(f"{MOST_SEEDS} seeds are not enough")


def measure(store: str, file: Path, norms: tuple[str, str]) -> dict[str, Any]:
    """The components of the difference of two norms' final PSNR, where seeds vary most."""
    from orchestrator.plan import load_plan
    from orchestrator.report.frame import read_frame
    from orchestrator.report.pairs import index_of, paired, places
    from orchestrator.statistics.components import variance_components
    from orchestrator.statistics.interval import Unknown
    from orchestrator.store import open_store

    plan = load_plan(file)
    frame = read_frame(plan, open_store(store))
    found = []
    for place in places(frame):
        table = paired(index_of(frame), place, *norms).differences
        if place.metric != "psnr" or isinstance(table, Unknown):
            continue
        lines = variance_components(table)
        if isinstance(lines, Unknown):
            print(f"{place.size} on {place.set}: {lines.reason}")
            continue
        variances = {}
        for line, name in ((lines[0], "seed"), (lines[1], "image"), (lines[3], "seed x image")):
            assert not isinstance(line.variance, Unknown)
            variances[name] = line.variance.estimate
        found.append((deviation(variances, table.shape[1]), place, table.shape, variances))
    if not found:
        raise SystemExit(f"{file}: no per-image PSNR of {' and '.join(norms)} at two seeds or more")
    for sd, place, shape, _ in found:
        print(f"{place.size} on {place.set}: {sd:.4f} dB between {shape[0]} seeds")
    _, place, (seeds, images), variances = max(found, key=lambda one: one[0])
    took = [
        look.result["ended"] - look.tried[-1]["started"]
        for look in frame.looks.values()
        if look.result and len(look.tried) == 1
    ]
    return {
        "measured": True,
        "from": f"{file.name}, the place of {len(found)} where seeds vary most",
        "norms": list(norms),
        "place": f"{place.size} on {place.set}",
        "seeds": seeds,
        "images": images,
        "variances": variances,
        "trial_seconds": float(np.median(took)) if took else None,
        "device": plan.trials[0].spec.placement.device,
    }


def deviation(variances: dict[str, float], images: int) -> float:
    """The standard deviation of a seed's mean difference on these images."""
    return math.sqrt(max(0.0, variances["seed"] + variances["seed x image"] / images))


def hours(components: dict[str, Any], trials: int) -> str:
    seconds = components["trial_seconds"]
    if seconds is None:
        return "hours not known"
    unit = "CPU" if str(components["device"]).lower() == "cpu" else "GPU"
    return f"{trials * seconds / 3600:.2g} {unit}-hours"


def say_unchanged(sd: float, seeds: int, questions: int, half_years: int) -> None:
    print("\n## Half-years without a change\n")
    print("| baseline | noise | seeds | way | with a false alarm % | 95 % interval | pass % |")
    print("|---|---|---|---|---|---|---|")
    others: tuple[Way, ...] = ("5 % each night", "looks pooled")
    settings: list[tuple[Way, int]] = [("chosen", few) for few in sorted({3, 5, seeds})]
    for way, few in [*settings, *((way, 5) for way in others)]:
        for world in worlds(sd, few, questions):
            alarmed, passed = unchanged(world, half_years, 1, way=way)
            low, high = stats.binomtest(alarmed, half_years).proportion_ci()
            print(
                f"| {world} | {few} | {way} | {100 * alarmed / half_years:.1f} | "
                f"{100 * low:.1f} to {100 * high:.1f} | {100 * passed:.1f} |",
                flush=True,
            )


def say_decay(sd: float, seeds: int, questions: int, half_years: int) -> None:
    print(f"\n## Decay of {DECAY} dB per night\n")
    print("| baseline | noise | half are seen within nights | 95 % within | dB lost by then |")
    print("|---|---|---|---|---|")
    for world in worlds(sd, seeds, questions):
        nights = decayed(world, half_years, 2)
        half, most = nights[len(nights) // 2], nights[math.ceil(0.95 * len(nights)) - 1]
        print(f"| {world} | {half:.0f} | {most:.0f} | {DECAY * most:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="false alarms of a gate, and what it sees")
    parser.add_argument("--half-years", type=int, default=1000)
    parser.add_argument("--seeds", type=int, help="default: as many as it takes")
    parser.add_argument("--questions", type=int, default=4, help="of each night")
    parser.add_argument("--components", type=Path, default=COMPONENTS)
    parser.add_argument("--store", help="measure the components there, and write --components")
    parser.add_argument("--file", type=Path, help="the sweep file of --store")
    parser.add_argument("--norms", nargs=2, default=["i_ln", "layer_norm"])
    given = parser.parse_args()
    if given.store:
        found = measure(given.store, given.file, tuple(given.norms))
        given.components.write_text(json.dumps(found, indent=2) + "\n")
        return
    components = json.loads(given.components.read_text())
    sd = deviation(components["variances"], components["images"])
    print(f"{sd:.4f} dB between seeds: {components['from']}. {given.half_years} half-years of")
    print(f"{NIGHTS} nights, a gate of {given.questions} questions.\n")
    setting = (sd, given.questions, given.half_years)
    seeds = given.seeds
    if seeds is None:
        print(f"## Drops of {GATE.margin} dB caught within {SOON} nights, %\n")
        seeds = enough_seeds(*setting, 0.1, GATE, 3)
    print(f"\n{seeds} seeds: {hours(components, seeds)} to train one changed norm.")
    say_unchanged(sd, seeds, given.questions, given.half_years)
    say_decay(sd, seeds, given.questions, given.half_years)
    print(f"\n## Drops of 0.05 dB, which is within the margin, at {seeds} seeds\n")
    for world in worlds(sd, seeds, given.questions):
        share_of = caught(world, given.half_years, 3, 0.05)
        print(f"- {world}: {100 * share_of:.1f} % caught within {SOON} nights")
    print("\n## Drops of 0.05 dB with `margin: 0.05`, %\n")
    half = GATE.model_copy(update={"margin": 0.05})
    more = enough_seeds(*setting, 0.05, half, 2 * seeds)
    print(f"\n{more} seeds: {hours(components, more)} to train one changed norm.")


if __name__ == "__main__":
    main()
