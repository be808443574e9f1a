"""`growing` and `bounded`: whether the largest group's mean square still grows at the end.

The slope of log mean square against log step over the last half of training, over seeds, against a
margin: orchestrator.statistics.growth has the definitions, and docs/decisions/0020 the margin. The
part's verdict at the full level is that module's.

growing holds, and bounded fails, where the slope is above the margin, or more trainings diverge
than chance would have it (a binomial test against DIVERGED_SHARE, the same as Clopper and Pearson's
limit). bounded holds, and growing fails, where it is below and no training diverged.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from scipy import special

from orchestrator.report.claims.lines import OverNorms
from orchestrator.report.claims.material import Cell, Material
from orchestrator.report.claims.parts import Evidence, Part, evidence
from orchestrator.statistics.decisions import p_greater, p_less
from orchestrator.statistics.growth import DIVERGED_SHARE, MARGIN, Growth, over_seeds
from orchestrator.statistics.interval import Interval, Unknown


class Shape(OverNorms):
    """A claim that the features of each norm grow, or that they do not."""

    margin: Annotated[float, Field(gt=0, le=100)] = MARGIN


def parts(claim: Shape, material: Material) -> tuple[Part, ...]:
    return tuple(
        _part(claim, cell, material)
        for norm in claim.norms
        for cell in material.cells_of(claim, norm)
    )


def _part(claim: Shape, cell: Cell, material: Material) -> Part:
    found = material.growth_of(cell)
    seeds = found.growth.seeds
    left_out = tuple(
        f"seed {seed.seed}: {seed.slope.reason}"
        for seed in seeds
        if isinstance(seed.slope, Unknown)
    )
    counted = tuple(
        trial
        for trial, seed in zip(found.trials, seeds, strict=True)
        if not isinstance(seed.slope, Unknown)
    )
    return Part(
        material.named(cell.labels),
        "slope",
        evidence_of(found.growth, claim.margin, is_growing=claim.statistic == "growing"),
        (cell,),
        counted,
        left_out,
    )


def evidence_of(growth: Growth, margin: float, *, is_growing: bool) -> Evidence | Unknown:
    """What the trials of a cell say of the slope against the margin."""
    if isinstance(growth.slope, Unknown):
        return growth.slope
    known = [s for s in growth.seeds if not isinstance(s.slope, Unknown)]
    finite = [(s.seed, s.slope) for s in known if not s.diverged]
    num_diverged = len(known) - len(finite)
    slope: Interval | Unknown = growth.slope
    if num_diverged:
        slope = over_seeds(finite) if finite else Unknown("every training diverged")
    above, below = _slope_p(slope, margin)
    if num_diverged:
        below = 1.0
        share = float(special.bdtrc(num_diverged - 1, len(known), DIVERGED_SHARE))
        above = min(above, 2 * share)
    holds, fails = (above, below) if is_growing else (below, above)
    return evidence(growth.slope, holds, fails, abs(growth.slope.estimate - margin))


def _slope_p(slope: Interval | Unknown, margin: float) -> tuple[float, float]:
    """Twice the one-sided p-values against a slope of at most, and of at least, the margin."""
    if isinstance(slope, Unknown) or not math.isfinite(slope.standard_error):
        return 1.0, 1.0
    return 2 * p_greater(slope, margin), 2 * p_less(slope, margin)
