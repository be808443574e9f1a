"""`difference`: a candidate's final scores minus a reference's, paired by seed and image.

The interval is the one for other seeds on these images (orchestrator.statistics.paired), since the
paper's tables are about these very sets; orchestrator.report.contrasts computes it, and says why
two trials cannot be compared. `question` is one of orchestrator.statistics.decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from orchestrator.report.claims.lines import OfScores, said
from orchestrator.report.claims.material import Cell, Material
from orchestrator.report.claims.parts import Evidence, Part, beyond
from orchestrator.report.claims.parts import evidence as made_of
from orchestrator.report.comparable import MEAN
from orchestrator.report.contrasts import Place
from orchestrator.statistics.decisions import equivalence, p_greater, p_less
from orchestrator.statistics.interval import Interval, Unknown

Pair = tuple[Cell, Cell]  # the candidate's and the reference's
C = TypeVar("C", bound=OfScores)
UNITS = {"psnr": "dB", "ssim": "SSIM"}


class Shape(OfScores):
    """A claim about the difference of two norms' scores."""

    question: Literal["superiority", "non_inferiority", "equivalence"] = "superiority"
    margin: Annotated[float, Field(ge=0, le=1e6)] = 0.0

    @model_validator(mode="after")
    def _has_margin(self) -> Shape:
        if self.question != "superiority" and self.margin == 0:
            raise said(f"{self.question} needs a margin above 0")
        return self


def parts(claim: Shape, material: Material) -> tuple[Part, ...]:
    return parts_of_scores(claim, material, _part, _unscored)


def parts_of_scores(
    claim: C,
    material: Material,
    part: Callable[[C, Pair, Place, Material], Part],
    unscored: Callable[[C, Pair, Material], Part],
) -> tuple[Part, ...]:
    """A `part` of each pair of cells at each of their places, or what is `unscored` of a pair."""
    found = []
    for pair in material.pairs(claim):
        places = _places_of(claim, pair[0], material)
        found += [part(claim, pair, place, material) for place in places]
        if not places:
            found.append(unscored(claim, pair, material))
    return tuple(found)


def _places_of(claim: OfScores, cell: Cell, material: Material) -> list[Place]:
    """Where a cell has the scores that a claim is about, untiled."""
    return [
        place
        for place in material.places_of(cell)
        if (place.metric, place.precision, place.tile) == (claim.metric, claim.precision, "")
        and (not claim.sets or place.set in claim.sets)
    ]


def _unscored(claim: Shape, pair: Pair, material: Material) -> Part:
    sets = f" on {', '.join(claim.sets)}" if claim.sets else ""
    at = "" if claim.precision == "fp32" else f" at {claim.precision}"
    reason = Unknown(f"no {claim.metric}{sets}{at} of either")
    return Part(versus(pair, material), unit_of(claim.metric), reason, pair)


def versus(pair: Pair, material: Material, *where: str) -> str:
    """`i_ln - layer_norm, sr_x2 w24 d2 swinir-tiny, Set5`."""
    candidate, reference = pair
    named = material.named(candidate.labels, f"{candidate.norm} - {reference.norm}")
    return ", ".join((named, *where))


def unit_of(metric: str) -> str:
    return UNITS.get(metric, metric)


def _part(claim: Shape, pair: Pair, place: Place, material: Material) -> Part:
    found = material.contrast(place, pair[0].norm, pair[1].norm)
    evidence = evidence_of(found.other_seeds, claim.question, claim.margin)
    if isinstance(evidence, Evidence) and found.images == (MEAN,):
        evidence = replace(evidence, n_images=0)
    where = () if claim.precision == "fp32" else (claim.precision,)
    return Part(
        versus(pair, material, place.set, *where),
        unit_of(claim.metric),
        evidence,
        pair,
        found.trials,
        found.left_out,
    )


def evidence_of(difference: Interval | Unknown, question: str, margin: float) -> Evidence | Unknown:
    """What a difference says of one of the three questions."""
    if question == "superiority":
        return beyond(difference, margin)
    if question == "non_inferiority":
        return beyond(difference, -margin)
    if isinstance(difference, Unknown):
        return difference
    within = equivalence(difference, margin).p_value
    apart = 2 * min(p_greater(difference, margin), p_less(difference, -margin))
    distance = abs(margin - abs(difference.estimate))
    return made_of(difference, 1.0 if within is None else within, apart, distance)
