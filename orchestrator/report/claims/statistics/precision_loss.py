"""`precision_loss`: how much more a low precision costs the reference than the candidate.

    (fp32 - low) of the reference - (fp32 - low) of the candidate

for each seed and image, from `normsweep evaluate`. The interval is that for other seeds on these
images (orchestrator.statistics.paired). Both precisions score the same weights on the same images
in the same way, and the two norms' trials are comparable (orchestrator.report.comparable).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orchestrator.hints import hint
from orchestrator.plan.expand import Trial
from orchestrator.report.claims.lines import Number, OfScores, Precision
from orchestrator.report.claims.material import Material, seeds_of
from orchestrator.report.claims.parts import Part, beyond
from orchestrator.report.claims.statistics.difference import Pair, parts_of_scores, unit_of, versus
from orchestrator.report.comparable import HALF_REVISION, differing
from orchestrator.report.contrasts import Place
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.paired import other_seeds

FULL = "fp32"
Losses = dict[str, float]  # by image


class Shape(OfScores):
    """A claim that a precision costs the reference more, by more than `above`."""

    precision: Precision
    above: Number = 0.0


def parts(claim: Shape, material: Material) -> tuple[Part, ...]:
    return parts_of_scores(claim, material, _part, _unscored)


def _unscored(claim: Shape, pair: Pair, material: Material) -> Part:
    reason = Unknown(f"no evaluation at {claim.precision}")
    where = versus(pair, material, claim.precision)
    return Part(where, unit_of(claim.metric), reason, pair, advice=_how(claim))


def _part(claim: Shape, pair: Pair, place: Place, material: Material) -> Part:
    rows: list[list[float]] = []
    images: list[str] = []
    trials: list[str] = []
    left_out: list[str] = []
    for seed, both in seeds_of(pair).items():
        found = _difference(both, place, material)
        if isinstance(found, Unknown):
            left_out.append(f"seed {seed}: {found.reason}")
            continue
        images = images or list(found)
        if set(found) != set(images):
            left_out.append(f"seed {seed}: scored on other images than the seeds before it")
            continue
        rows.append([found[image] for image in images])
        trials += [trial.id for trial in both]
    interval: Interval | Unknown = Unknown("; ".join(left_out) or "no seed that both norms have")
    if rows:
        interval = other_seeds(np.array(rows))
    where = versus(pair, material, place.set, claim.precision)
    unit, evidence = unit_of(claim.metric), beyond(interval, claim.above)
    advice = () if rows and not left_out else _how(claim)
    return Part(where, unit, evidence, pair, tuple(trials), tuple(left_out), advice)


def _difference(both: tuple[Trial, ...], place: Place, material: Material) -> Losses | Unknown:
    """The reference's loss minus the candidate's, by image, for one seed."""
    losses, finals = [], []
    for trial in both:
        full, low = (material.final(trial, at) for at in (replace(place, precision=FULL), place))
        norm = trial.axes["norm"]
        if isinstance(full, str) or isinstance(low, str):
            said = dict.fromkeys(why for why in (full, low) if isinstance(why, str))
            return Unknown(f"{norm} {', '.join(said)}")
        one, other = (final.without((HALF_REVISION,)) for final in (full, low))
        if unlike := differing(one, other, FULL, place.precision):
            return Unknown(f"{norm}: {unlike}")
        losses.append({image: full.values[image] - low.values[image] for image in full.values})
        finals.append(low)
    names = [str(trial.axes["norm"]) for trial in both]
    if unlike := differing(finals[0], finals[1], names[0], names[1]):
        return Unknown(unlike)
    candidate, reference = losses
    return {image: reference[image] - candidate[image] for image in candidate}


def _how(claim: Shape) -> tuple[str, ...]:
    precisions = f"--precision {FULL} --precision {claim.precision.removesuffix(' per channel')}"
    channel = " --per-channel" if claim.precision.endswith("per channel") else ""
    return (f"{hint(f'evaluate TRIAL {precisions}{channel}')} for each trial",)
