"""`psnr` and `ssim`: the candidate's scores on a set minus the reference's, paired by seed.

A value is the mean over images of the difference at one seed; the interval is that of the claims
for other seeds on these images (orchestrator.report.contrasts). The candidate passes if it is
surely worse by less than the margin (non-inferiority, ICH E9), and the alarm is that it is surely
worse at all. Scores are those of fp32 on whole images at the last step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from orchestrator.regression.cases import Case
from orchestrator.regression.measured import Measured, Shown, Verdict
from orchestrator.report.contrasts import Place
from orchestrator.statistics.interval import Unknown

SAME = "the same scores, to the bit"


def psnr(case: Case) -> Iterator[Measured]:
    yield from _scores(case, "psnr", "dB", case.asked.margin)


def ssim(case: Case) -> Iterator[Measured]:
    yield from _scores(case, "ssim", "SSIM", case.asked.ssim_margin)


def _scores(case: Case, metric: str, unit: str, margin: float | None) -> Iterator[Measured]:
    if margin is None:
        return
    asked = dict.fromkeys(
        name for trial in case.cell.trials for name in trial.spec.observe.evaluate
    )
    for place in case.ground.both.places_of(case.cell):
        if place.metric == metric and not place.run and place.set in asked:
            yield _answer(case, place, unit, margin)


def _answer(case: Case, place: Place, unit: str, margin: float) -> Measured:
    key = case.key(place.metric, place.set)
    found = case.ground.both.contrast(place, case.norm, case.reference)
    table = found.differences
    exact: Verdict | None = None
    values: tuple[float, ...] | Unknown
    said, mean = "", None
    interval = found.other_seeds
    if isinstance(table, Unknown):
        why = case.untrained or case.without_reference or _in_words(case, table.reason)
        values = interval = Unknown(why)
    else:
        values, mean = tuple(map(float, table.mean(axis=1))), float(table.mean())
        if not np.any(table):
            exact, said = "pass", SAME
    if case.diverged:
        exact, said = "fail", case.diverged
        values = interval = Unknown(said)
    low, high = (None, None) if isinstance(interval, Unknown) else (interval.low, interval.high)
    return Measured(
        key,
        case.ids(found.trials),
        case.setup(key, margin, compared=True),
        tuple(sorted({*found.seeds, *case.gone})),
        values,
        -margin,
        0.0,
        interval,
        Shown(mean, low, high, -margin, unit, "at_least"),
        exact,
        said,
        tuple(_in_words(case, why) for why in found.left_out),
    )


def _in_words(case: Case, why: str) -> str:
    """A reason of orchestrator.report.pairs, which takes a baseline's trials for the sweep's."""
    return why.replace(f"{case.reference} not in the sweep", f"no {case.reference}")
