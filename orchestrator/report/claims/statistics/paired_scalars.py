"""The difference of two norms in one number for each trial, paired by seed.

Student's t over the differences of the seeds. Their variance is moderated by those of the claim's
other pairs with the same backbone, task and recipe (Smyth 2004: orchestrator.statistics.moderation
and docs/decisions/0019), without which two seeds say next to nothing. A difference that is infinite
makes the mean infinite, as in orchestrator.statistics.growth, and no pool is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.expand import Trial
from orchestrator.report.claims.lines import Beyond, Threshold
from orchestrator.report.claims.material import Cell, Material, seeds_of
from orchestrator.report.claims.parts import Evidence, Part, Side, beyond
from orchestrator.report.claims.statistics.difference import versus
from orchestrator.report.claims.statistics.scalar import summary
from orchestrator.statistics.growth import over_seeds
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.moderation import Prior, prior_from
from orchestrator.statistics.paired import other_seeds, seed_variance

OfTrial = Callable[[Trial], float | Unknown]


@dataclass(frozen=True)
class _Paired:
    """The differences of one pair of cells, by seed, and the ids of the trials with a number."""

    pair: tuple[Cell, Cell]
    by_seed: tuple[tuple[int, float | Unknown], ...]
    trials: tuple[str, ...]

    @property
    def column(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The differences that are numbers, (S, 1)."""
        known = [value for _, value in self.by_seed if not isinstance(value, Unknown)]
        return np.array(known, dtype=float).reshape(-1, 1)


def paired_parts(
    claim: Beyond,
    material: Material,
    pairs: Sequence[tuple[Cell, Cell]],
    of_trial: OfTrial,
    unit: str,
    *,
    may_be_infinite: bool = False,
    advice: Callable[[tuple[Trial, ...]], tuple[str, ...]] = lambda trials: (),
) -> tuple[Part, ...]:
    """A part for each pair; `advice` says what else it would take, given the pair's trials.

    With `may_be_infinite` a trial's infinite number is a result, otherwise there is no interval.
    """
    found = [_paired(pair, of_trial, material) for pair in pairs]
    limit = claim.threshold
    made = []
    for one in found:
        pool = [other for other in found if _pools(one, other, material)]
        no_number = None if may_be_infinite else _not_finite(one)
        made.append(
            Part(
                versus(one.pair, material),
                unit,
                no_number or _evidence(one, pool, limit),
                one.pair,
                one.trials,
                tuple(
                    f"seed {seed}: {difference.reason}"
                    for seed, difference in one.by_seed
                    if isinstance(difference, Unknown)
                ),
                advice(tuple(trial for cell in one.pair for trial in cell.trials)),
            )
        )
    return tuple(made)


def _paired(pair: tuple[Cell, Cell], of_trial: OfTrial, material: Material) -> _Paired:
    by_seed: list[tuple[int, float | Unknown]] = []
    trials: list[str] = []
    for seed, both in seeds_of(pair).items():
        difference = _difference(pair, (of_trial(both[0]), of_trial(both[1])))
        if not isinstance(difference, Unknown) and (why := material.apart(*both)):
            difference = Unknown(why)
        if not isinstance(difference, Unknown):
            trials += [trial.id for trial in both]
        by_seed.append((seed, difference))
    return _Paired(pair, tuple(by_seed), tuple(trials))


def _difference(
    pair: tuple[Cell, Cell], values: tuple[float | Unknown, float | Unknown]
) -> float | Unknown:
    one, other = values
    if isinstance(one, Unknown) or isinstance(other, Unknown):
        reasons = {
            cell.norm: value.reason
            for cell, value in zip(pair, values, strict=True)
            if isinstance(value, Unknown)
        }
        return Unknown(", ".join(f"{norm}: {reason}" for norm, reason in reasons.items()))
    return one - other


def _pools(one: _Paired, other: _Paired, material: Material) -> bool:
    """Whether the variance of another pair says something about this one's."""
    if one is other or len(other.column) < 2 or not np.isfinite(other.column).all():
        return False
    apart = [
        axis.name
        for axis in material.plan.axes
        if axis.role not in ("size", "repeat") and axis.name != COMPARED
    ]
    here, there = one.pair[0].labels, other.pair[0].labels
    return all(here[name] == there[name] for name in apart)


def _evidence(one: _Paired, pool: Sequence[_Paired], limit: Threshold) -> Evidence | Unknown:
    column = one.column
    side: Side = "above" if limit.is_above else "below"
    if not len(column):
        return beyond(summary(list(one.by_seed)), limit.value, side)
    if not np.isfinite(column).all():
        return _infinite(one, limit.value, side)
    variances = [seed_variance(other.column) for other in pool]
    prior = prior_from([v for v, _ in variances], [degrees for _, degrees in variances])
    found = other_seeds(column, prior=prior if isinstance(prior, Prior) else None)
    if isinstance(found, Interval):
        found = replace(found, n_images=0)
    return beyond(found, limit.value, side)


def _infinite(one: _Paired, value: float, side: Side) -> Evidence | Unknown:
    """The evidence where some differences are infinite, and so is their mean.

    It lies beyond the mean of the finite ones, so their test in that direction stands, and there is
    none in the other.
    """
    rising, falling = one.column.max() == math.inf, one.column.min() == -math.inf
    if np.isnan(one.column).any():
        return Unknown("with some seed both norms diverge")
    if rising and falling:
        return Unknown("with some seeds only the candidate diverges, with others the reference")
    finite = [(s, v) for s, v in one.by_seed if not isinstance(v, Unknown) and math.isfinite(v)]
    n, to = len(one.column), math.inf if rising else -math.inf
    of_finite = beyond(over_seeds(finite), value, side)
    if isinstance(of_finite, Unknown):
        low, high = (-math.inf, to) if rising else (to, math.inf)
        return Evidence(to, low, high, 1.0, 1.0, n)
    low, high = (of_finite.low, to) if rising else (to, of_finite.high)
    helps = rising == (side == "above")
    holds, fails = (of_finite.p_holds, 1.0) if helps else (1.0, of_finite.p_fails)
    return Evidence(to, low, high, holds, fails, n)


def _not_finite(one: _Paired) -> Unknown | None:
    """The first difference that is not a finite number, in words."""
    for seed, value in one.by_seed:
        if not isinstance(value, Unknown) and not math.isfinite(value):
            return Unknown(f"seed {seed}: a difference of {value:g}, which is not a finite number")
    return None
