"""`trend`: whether the growth of a norm's features rises with width, depth or parameters.

The slope of log growth on log size, or the order of the sizes where trials diverged, as
orchestrator.statistics.correlation has it: there the exact permutation test takes the slope's
place, and `above` has to be 0.
"""

from __future__ import annotations

from typing import Literal

from orchestrator.plan.axes import COMPARED
from orchestrator.report.claims.lines import Number, OverNorms
from orchestrator.report.claims.material import Cell, Material, resolved
from orchestrator.report.claims.parts import Evidence, Part, beyond
from orchestrator.report.growths import NormTrend
from orchestrator.statistics.correlation import Trend
from orchestrator.statistics.interval import Interval, Unknown
from trainers.catalog import NORMS
from trainers.choice import Choice

FEW_SIZES = 5  # with fewer, no order of the sizes has p below 5 %


class Shape(OverNorms):
    """A claim that growth goes with a power of a size that is above a number."""

    measure: Literal["width", "depth", "parameters"]
    above: Number = 0.0


def parts(claim: Shape, material: Material) -> tuple[Part, ...]:
    return tuple(
        _part(claim, found, cells, material)
        for norm in claim.norms
        for found, cells in _trends(claim, norm, material)
    )


def _trends(
    claim: Shape, norm: Choice, material: Material
) -> list[tuple[NormTrend, tuple[Cell, ...]]]:
    """The trends of a norm, each with the cells that it is made of."""
    wanted = material.cells_of(claim, norm)
    found = []
    for one in material.trends:
        cells = tuple(cell for cell in wanted if one.labels.items() <= cell.labels.items())
        if cells and one.measure == claim.measure:
            assert cells[0].trials[0].spec.model.norm == resolved(NORMS, norm)
            found.append((one, cells))
    return found


def _part(claim: Shape, found: NormTrend, cells: tuple[Cell, ...], material: Material) -> Part:
    evidence, unit = evidence_of(found.trend, claim.above)
    sizes = len({cell.trials[0].parameters for cell in cells})
    return Part(
        material.named(found.labels, str(found.labels[COMPARED]), f"against {claim.measure}"),
        unit,
        evidence,
        cells,
        found.trials,
        found.left_out,
        (f"more sizes than {sizes}",),
    )


def evidence_of(trend: Trend, above: float) -> tuple[Evidence | Unknown, str]:
    """What the sizes say, and the unit of the numbers."""
    if isinstance(trend.slope, Interval):
        found = beyond(trend.slope, above)
        if isinstance(found, Evidence):
            found = Evidence(
                found.estimate,
                found.low,
                found.high,
                found.p_holds,
                found.p_fails,
                trend.rank.n,
                n_of="sizes",
            )
        return found, "power"
    rank, unit = trend.rank, "\N{GREEK SMALL LETTER RHO}"
    if above != 0 or isinstance(trend.p, Unknown) or rank.rho is None:
        return trend.slope, unit
    low, high = (-1.0, 1.0) if rank.low is None or rank.high is None else (rank.low, rank.high)
    holds, fails = (trend.p, 1.0) if rank.rho > 0 else (1.0, trend.p)
    return Evidence(rank.rho, low, high, holds, fails, rank.n, n_of="sizes"), unit
