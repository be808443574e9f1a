"""`growth`: how many times the largest group's mean square at the end is that at step 0.

A value is minus the natural logarithm of that factor at one seed (orchestrator.report.growths), and
minus infinity where features are not finite at some step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from orchestrator.regression.cases import Case
from orchestrator.regression.measured import Measured
from orchestrator.regression.seeds import Limit, of_seeds
from orchestrator.statistics.growth import SeedGrowth
from orchestrator.statistics.interval import Unknown


def growth(case: Case) -> Iterator[Measured]:
    if case.asked.growth is None:
        return
    found: dict[int, float | Unknown] = {}
    if not case.unavailable:
        line = case.ground.own.growth_of(case.cell)
        found = {seed.seed: _oriented(seed) for seed in line.growth.seeds}
    limit = Limit(case.asked.growth, "times", "at_most", is_ratio=True)
    yield of_seeds(case, case.key("growth"), limit, found)


def _oriented(seed: SeedGrowth) -> float | Unknown:
    if seed.diverged:
        return -math.inf
    if isinstance(seed.log10_growth, Unknown):
        return seed.log10_growth
    return -math.log(10) * seed.log10_growth
