"""`scalar_difference`: candidate's minus reference's scalar at the end, paired by seed.

One seed gives both norms the same patches in the same order. The interval is that of
orchestrator.report.claims.statistics.paired_scalars, against the threshold `above` or `below`.
"""

from __future__ import annotations

from orchestrator.plan.expand import Trial
from orchestrator.report.claims.lines import Beyond, OfTwo, Scalar
from orchestrator.report.claims.material import Material
from orchestrator.report.claims.parts import Part
from orchestrator.report.claims.statistics.paired_scalars import paired_parts
from orchestrator.report.claims.statistics.scalar import advice, at_end, scalar_of
from orchestrator.statistics.interval import Unknown


class Shape(Beyond, OfTwo):
    """A claim about the difference of two norms' scalars."""

    metric: Scalar


def parts(claim: Shape, material: Material) -> tuple[Part, ...]:
    pairs = material.pairs(claim)
    values = material.values(claim.metric) if pairs else {}
    apart: dict[str, str] = {}
    for cell in (cell for pair in pairs for cell in pair):
        apart |= material.by_commit(cell)

    def of_trial(trial: Trial) -> float | Unknown:
        return scalar_of(trial, values, at_end, material, apart)

    def take(trials: tuple[Trial, ...]) -> tuple[str, ...]:
        return advice(claim.metric, trials)

    unit = f"difference of {claim.metric}"
    return paired_parts(claim, material, pairs, of_trial, unit, advice=take)
