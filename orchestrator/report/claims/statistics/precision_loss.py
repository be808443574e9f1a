"""`precision_loss`: how much more a low precision costs the reference than the candidate.

    (fp32 - low) of the reference - (fp32 - low) of the candidate

for each seed and image, from `normsweep evaluate`. The interval is that for other seeds on these
images (orchestrator.statistics.paired). Scores of both precisions come from the same weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.claims.lines import Metric, Number, OfTwo, Precision, Sets
from orchestrator.report.claims.material import Cell, Material
from orchestrator.report.claims.parts import Part, beyond
from orchestrator.report.claims.statistics.difference import places_of, unit_of, versus
from orchestrator.report.contrasts import Place, Scores
from orchestrator.statistics.interval import Unknown
from orchestrator.statistics.paired import other_seeds

Table = NDArray[np.float64]
FULL = "fp32"


class Shape(OfTwo):
    """A claim that a precision costs the reference more, by more than `above`."""

    precision: Precision
    metric: Metric = "psnr"
    sets: Sets = ()
    above: Number = 0.0


def parts(claim: Shape, material: Material) -> tuple[Part, ...]:
    found = []
    for pair in material.pairs(claim):
        places = places_of(claim, pair[0], material, claim.precision)
        found += [_part(claim, pair, place, material) for place in places]
        if not places:
            reason = Unknown(f"no evaluation at {claim.precision}")
            found.append(
                Part(
                    versus(pair, material), unit_of(claim.metric), reason, pair, advice=_how(claim)
                )
            )
    return tuple(found)


def _part(claim: Shape, pair: tuple[Cell, Cell], place: Place, material: Material) -> Part:
    full = replace(place, precision=FULL)
    scores = [material.scores(at, cell.norm) for cell in pair for at in (full, place)]
    known = [one for one in scores if isinstance(one, Scores)]
    left_out = tuple(dict.fromkeys(line for one in known for line in one.left_out))
    where = versus(pair, material, place.set, claim.precision)
    lacking = [
        f"{cell.norm} at {precision}: {one.reason}"
        for (cell, precision), one in zip(
            ((cell, p) for cell in pair for p in (FULL, claim.precision)), scores, strict=True
        )
        if isinstance(one, Unknown)
    ]
    unit = unit_of(claim.metric)
    if lacking:
        return Part(where, unit, Unknown("; ".join(lacking)), pair, (), left_out, _how(claim))
    losses = loss_difference(known)
    interval = losses if isinstance(losses, Unknown) else other_seeds(losses)
    trials = tuple(dict.fromkeys(trial for one in known for trial in one.trials))
    return Part(where, unit, beyond(interval, claim.above), pair, trials, left_out, _how(claim))


def loss_difference(scores: list[Scores]) -> Table | Unknown:
    """The differences (S, I), from the scores of candidate and reference, each in full and low."""
    seeds = [s for s in scores[0].seeds if all(s in one.seeds for one in scores)]
    images = [i for i in scores[0].images if all(i in one.images for one in scores)]
    if any(set(one.images) != set(images) for one in scores):
        return Unknown("the precisions were scored on different images: cannot be compared")
    if not seeds:
        return Unknown("no seed has scores of both norms at both precisions")
    candidate_full, candidate_low, full, low = (_table(one, seeds, images) for one in scores)
    with np.errstate(invalid="ignore"):
        return np.asarray((full - low) - (candidate_full - candidate_low), dtype=float)


def _table(scores: Scores, seeds: list[int], images: list[str]) -> Table:
    rows = [scores.seeds.index(seed) for seed in seeds]
    columns = [scores.images.index(image) for image in images]
    return np.asarray(scores.table, dtype=float)[np.ix_(rows, columns)]


def _how(claim: Shape) -> tuple[str, ...]:
    precisions = f"--precision {FULL} --precision {claim.precision.removesuffix(' per channel')}"
    channel = " --per-channel" if claim.precision.endswith("per channel") else ""
    return (f"normsweep evaluate TRIAL {precisions}{channel} for each trial",)
