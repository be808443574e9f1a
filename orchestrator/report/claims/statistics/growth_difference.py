"""`growth_difference`: candidate's minus reference's growth since step 0, paired by seed.

Growth is log10 of the largest group's mean square at the end over that at step 0
(orchestrator.statistics.growth), so that the difference is the number of decades by which the
candidate's features grow more, whatever scales the two norms start at. It is infinite for a seed
with which the candidate diverges and the reference does not.
"""

from __future__ import annotations

from orchestrator.plan.expand import Trial
from orchestrator.report.claims.lines import Beyond, OfTwo
from orchestrator.report.claims.material import Material
from orchestrator.report.claims.parts import Part
from orchestrator.report.claims.statistics.paired_scalars import paired_parts
from orchestrator.statistics.interval import Unknown


class Shape(Beyond, OfTwo):
    """A claim that features grow more (or less) with one norm than with another."""


def parts(claim: Shape, material: Material) -> tuple[Part, ...]:
    pairs = material.pairs(claim)
    growth_of = {
        trial: seed.log10_growth
        for line in (material.growths if pairs else ())
        for trial, seed in zip(line.trials, line.growth.seeds, strict=True)
    }

    def of_trial(trial: Trial) -> float | Unknown:
        return growth_of.get(trial.id, Unknown(material.state_in_words(trial)))

    unit = "decades of growth"
    return paired_parts(claim, material, pairs, of_trial, unit, may_be_infinite=True)
