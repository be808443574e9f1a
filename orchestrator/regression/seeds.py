"""Answers to questions with one number per seed: how they are oriented, limited and shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.regression.cases import Case, seeds_in_words
from orchestrator.regression.measured import Key, Measured, Shown, Verdict
from orchestrator.statistics.growth import over_seeds
from orchestrator.statistics.interval import Interval, Unknown

LARGEST_EXPONENT = 709.0  # of e, that a float holds


@dataclass(frozen=True)
class Limit:
    """What the mean over seeds is held against, as people read it: `at most` 1.1 `times`.

    Values that are compared by their ratio (`is_ratio`) are judged on the scale of logarithms.
    """

    value: float
    unit: str
    sense: Literal["at_least", "at_most"]
    is_ratio: bool = False

    def oriented(self, shown: float) -> float:
        """A number so that more is better: itself, or minus it, or its logarithm."""
        value = shown
        if self.is_ratio:
            value = math.log(shown) if shown > 0 else -math.inf
        return -value if self.sense == "at_most" else value

    def shown(self, oriented: float) -> float:
        """The number that people read."""
        value = -oriented if self.sense == "at_most" else oriented
        if not self.is_ratio:
            return value
        return math.exp(value) if value < LARGEST_EXPONENT else math.inf

    def as_shown(self, mean: float | None, interval: Interval | Unknown) -> Shown:
        if isinstance(interval, Unknown):
            ends: list[float | None] = [None, None]
        else:
            ends = [*sorted((self.shown(interval.low), self.shown(interval.high)))]
        low, high = (None if end is None or not math.isfinite(end) else end for end in ends)
        value = None if mean is None else self.shown(mean)
        return Shown(value, low, high, self.value, self.unit, self.sense)


def of_seeds(
    case: Case,
    key: Key,
    limit: Limit,
    found: Mapping[int, float | Unknown],
    *,
    compared: bool = False,
) -> Measured:
    """The answer from oriented numbers by seed, or from the reasons why there are none.

    `compared`: they are differences from the reference. Minus infinity, and a candidate that
    diverged, fail for certain.
    """
    values = {
        seed: value
        for seed, value in sorted(found.items())
        if not isinstance(value, Unknown) and not math.isnan(value) and value < math.inf
    }
    absent = {seed: _why(value) for seed, value in sorted(found.items()) if seed not in values}
    left_out = by_reason(absent)
    worst = [seed for seed, value in values.items() if value == -math.inf]
    why = case.diverged or (f"not finite ({seeds_in_words(worst)})" if worst else "")
    interval: Interval | Unknown
    exact: Verdict | None = None
    if why:
        interval, exact, said = Unknown(why), "fail", why
    else:
        interval, said = over_seeds(list(values.items())), ""
        if len(values) > 1 and len(set(values.values())) == 1:
            is_within = next(iter(values.values())) >= limit.oriented(limit.value)
            exact = "pass" if is_within else "fail"
            said = f"equal at all {len(values)} seeds, to the bit"
    none = case.untrained or "; ".join(left_out)
    if not none:
        none = case.without_reference if compared else "no trial"
    if compared and not case.untrained and not none.startswith("cannot be compared"):
        none = f"cannot be compared: {none}"
    mean = math.fsum(values.values()) / len(values) if values and not worst else None
    sides = (case.rows, case.reference_rows) if compared else (case.rows,)
    seeds = sorted({*values, *case.gone})
    numbers = Unknown(said) if exact else tuple(values.values()) or Unknown(none)
    return Measured(
        key,
        case.ids(row["trial"] for of in sides for seed, row in of.items() if seed in values),
        case.setup(key, limit.value, compared=compared),
        tuple(seeds),
        numbers,
        limit.oriented(limit.value),
        limit.oriented(limit.value),
        interval if values or why else Unknown(none),
        limit.as_shown(mean, interval),
        exact,
        said,
        left_out,
    )


def _why(value: float | Unknown) -> str:
    if isinstance(value, Unknown):
        return value.reason
    return "not a number" if math.isnan(value) else "infinite, which no mean can hold"


def by_reason(absent: Mapping[int, str]) -> tuple[str, ...]:
    """`seeds 0, 1: pending`, a sentence for each reason."""
    reasons: dict[str, list[int]] = {}
    for seed, why in sorted(absent.items()):
        reasons.setdefault(why, []).append(seed)
    return tuple(f"{seeds_in_words(seeds)}: {why}" for why, seeds in reasons.items())
