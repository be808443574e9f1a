"""The verdict on a claim that has several parts, such as places or pairs of norms.

Each part has two tests, one for "holds" and one for "fails", each with a p-value whose level is
ALPHA (orchestrator.report.claims.parts).

holds       in every part, each at the full level. This is the intersection-union test (Berger
            1982, Technometrics 24:295): were the claim false in a part, "holds" would need that
            part's test to be wrong, so that the chance of a wrong "holds" is at most ALPHA, however
            many parts there are and however they depend on each other.
fails       in at least one part, the level being shared over the k parts that have numbers:
            k * smallest p < ALPHA. This is Holm's first step, and Bonferroni's, so that a claim
            that is true everywhere "fails" with a chance of at most ALPHA.
undecided   otherwise, and where a part has no numbers or is not in the sweep.

ALPHA counts both sides of a two-sided test: a one-sided p is doubled, so that a claim with a
threshold is wrongly judged in 2.5 % of cases. The level is each claim's own, not the list's.
docs/decisions/0021 says what this costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.plan.expand import Plan
from orchestrator.report.claims.lines import Claim
from orchestrator.report.claims.material import Material
from orchestrator.report.claims.missing import Missing, missing
from orchestrator.report.claims.parts import Evidence, Part
from orchestrator.report.claims.reader import own_claims, paper
from orchestrator.report.claims.statistics import STATISTICS
from orchestrator.report.frame import Frame

ALPHA = 0.05

Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict.

    `deciding` is the part whose numbers are printed: of "holds" the weakest one, of "fails" the one
    that fails, else the one furthest from holding; None if the sweep has no part of the claim.
    `missing` says what it would take to be surer. `is_own` tells a user's claim from the paper's.
    """

    claim: Claim
    verdict: Verdict
    parts: tuple[Part, ...]
    deciding: Part | None
    missing: Missing
    is_own: bool = False

    @property
    def evidence(self) -> Evidence | None:
        """The numbers of the deciding part, if it has any."""
        found = self.deciding.evidence if self.deciding is not None else None
        return found if isinstance(found, Evidence) else None

    @property
    def unit(self) -> str:
        return self.deciding.unit if self.deciding is not None else ""

    @property
    def trials(self) -> tuple[str, ...]:
        """The ids of all trials that the verdict rests on."""
        return tuple(dict.fromkeys(trial for part in self.parts for trial in part.trials))

    @property
    def is_here(self) -> bool:
        """Whether the sweep has any part of the claim."""
        return bool(self.parts)

    def of_part(self, part: Part) -> Verdict:
        """The verdict on one of its parts."""
        return verdict_of(part, sum(isinstance(one.evidence, Evidence) for one in self.parts))


def claims(plan: Plan, frame: Frame, own: tuple[Claim, ...] | None = None) -> tuple[Judged, ...]:
    """Judge the user's own claims and then the paper's by what a sweep's frame holds.

    `own`: those of the file that the sweep names, by default. Raises UserError if they are wrong.
    """
    return judge_all(Material(plan, frame), own)


def judge_all(material: Material, own: tuple[Claim, ...] | None = None) -> tuple[Judged, ...]:
    """The same, by what has been computed of a frame."""
    own = own_claims(material.plan) if own is None else own
    return (
        *(judged(claim, material, is_own=True) for claim in own),
        *(judged(claim, material) for claim in paper()),
    )


def judged(claim: Claim, material: Material, *, is_own: bool = False) -> Judged:
    """Judge one claim."""
    parts = STATISTICS[claim.statistic].parts(claim, material)
    absent = material.absent(claim)
    verdict, deciding = decided(parts, is_whole=not absent)
    known = sum(isinstance(part.evidence, Evidence) for part in parts)
    open_parts = [part for part in parts if verdict_of(part, known) == "undecided"]
    if verdict == "fails":  # whatever the others would say
        open_parts = []
    return Judged(
        claim, verdict, parts, deciding, missing(claim, parts, open_parts, absent, material), is_own
    )


def decided(parts: tuple[Part, ...], *, is_whole: bool) -> tuple[Verdict, Part | None]:
    """The verdict on a claim with these parts, and the part that decides it.

    `is_whole`: the sweep has every norm, task and backbone that the claim names.
    """
    known = [(part, e) for part in parts if isinstance(e := part.evidence, Evidence)]
    if not known:
        return "undecided", parts[0] if parts else None
    surest, against = min(known, key=lambda pair: pair[1].p_fails)
    if against.p_fails * len(known) < ALPHA:
        return "fails", surest
    weakest, support = max(known, key=lambda pair: pair[1].p_holds)
    if is_whole and len(known) == len(parts) and support.p_holds < ALPHA:
        return "holds", weakest
    return "undecided", weakest


def verdict_of(part: Part, known: int) -> Verdict:
    """The verdict on one of `known` parts that have numbers, by the rule for the whole claim."""
    if not isinstance(part.evidence, Evidence):
        return "undecided"
    if part.evidence.p_holds < ALPHA:
        return "holds"
    return "fails" if part.evidence.p_fails * known < ALPHA else "undecided"
