"""`scalar_difference`: candidate's minus reference's scalar at the end, paired by seed.

One seed gives both norms the same patches in the same order. Student's t over the differences,
against the threshold `above` or `below`.
"""

from __future__ import annotations

from pydantic import model_validator

from orchestrator.report.claims.lines import Number, OfTwo, Scalar, check_threshold, threshold
from orchestrator.report.claims.material import Cell, Material, seeds_of
from orchestrator.report.claims.parts import Part, beyond
from orchestrator.report.claims.statistics.difference import versus
from orchestrator.report.claims.statistics.scalar import (
    Values,
    advice,
    at_end,
    scalar_of,
    summary,
)
from orchestrator.statistics.interval import Unknown


class Shape(OfTwo):
    """A claim about the difference of two norms' scalars."""

    metric: Scalar
    above: Number | None = None
    below: Number | None = None

    _has_threshold = model_validator(mode="before")(check_threshold)


def parts(claim: Shape, material: Material) -> tuple[Part, ...]:
    pairs = material.pairs(claim)
    values = material.values(claim.metric) if pairs else {}
    return tuple(_part(claim, pair, values, material) for pair in pairs)


def _part(claim: Shape, pair: tuple[Cell, Cell], values: Values, material: Material) -> Part:
    differences: list[tuple[int, float | Unknown]] = []
    trials: list[str] = []
    apart = material.by_commit(pair[0]) | material.by_commit(pair[1])
    for seed, both in seeds_of(pair).items():
        why = material.apart(*both)
        one, other = (scalar_of(trial, values, at_end, material, apart) for trial in both)
        if isinstance(one, Unknown) or isinstance(other, Unknown):
            reasons = {
                cell.norm: value.reason
                for cell, value in zip(pair, (one, other), strict=True)
                if isinstance(value, Unknown)
            }
            said = ", ".join(f"{norm}: {reason}" for norm, reason in reasons.items())
            differences.append((seed, Unknown(said)))
        elif why:
            differences.append((seed, Unknown(why)))
        else:
            differences.append((seed, one - other))
            trials += [trial.id for trial in both]
    value, is_above = threshold(claim)
    return Part(
        versus(pair, material),
        f"difference of {claim.metric}",
        beyond(summary(differences), value, "above" if is_above else "below"),
        pair,
        tuple(trials),
        tuple(
            f"seed {seed}: {one.reason}" for seed, one in differences if isinstance(one, Unknown)
        ),
        advice(claim.metric, (trial for cell in pair for trial in cell.trials)),
    )
