"""`fp16`: no value overflows where the network runs in fp16.

Two records say so, and each that a trial has must hold:

- evaluations at fp16 (`normsweep evaluate TRIAL --precision fp16`): no value of any restored image
  is non-finite;
- the probe `fp16_range` at the last step: no layer's output on the probe batch reaches 65504.

Either is exact. A trial with neither leaves the question undecided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.hints import hint
from orchestrator.plan.states import State
from orchestrator.regression.cases import Case
from orchestrator.regression.last import last_values
from orchestrator.regression.measured import Measured, Shown, Verdict
from orchestrator.regression.seeds import by_reason
from orchestrator.report.frame import in_words
from orchestrator.statistics.interval import Unknown

PROBE = "fp16_range/largest_share"


@dataclass(frozen=True)
class _Record:
    """What one trial says: the largest number of its kind, and whether that is right."""

    value: float
    unit: str
    limit: float
    is_right: bool
    said: str


def fp16(case: Case) -> Iterator[Measured]:
    if case.asked.fp16 is None:
        return
    key = case.key("fp16")
    found: dict[int, list[_Record]] = {}
    absent: dict[int, str] = {}
    evaluated, probed = _evaluated(case), last_values(case.ground.own.frame, PROBE)
    for seed, row in sorted(case.rows.items()):
        trial = row["trial"]
        if row["state"] != State.DONE:
            absent[seed] = in_words(row)
        elif records := [*evaluated.get(trial, ()), *_probed(probed, trial)]:
            found[seed] = records
        else:
            absent[seed] = (
                f"not recorded: run `{hint(f'evaluate {trial} --precision fp16')}`, or put "
                "`fp16_range` in observe.probes before training"
            )
    wrong = [
        f"{record.said} (seed {seed})"
        for seed, records in found.items()
        for record in records
        if not record.is_right
    ]
    exact: Verdict | None = "pass" if found and not absent else None
    said = "finite in fp16 at every seed" if exact else ""
    if case.diverged or wrong:
        exact, said = "fail", case.diverged or "; ".join(wrong)
    why = case.untrained or "; ".join(by_reason(absent)) or "no trial"
    every = [record for records in found.values() for record in records]
    worst = max(
        every, key=lambda one: (not one.is_right, one.unit == SHARE, one.value), default=None
    )
    yield Measured(
        key,
        case.ids(case.rows[seed]["trial"] for seed in found),
        case.setup(key, None, compared=False),
        tuple(sorted({*found, *case.gone})),
        Unknown(said or why),
        0.0,
        0.0,
        Unknown(said or why),
        Shown(
            worst.value if worst else None,
            None,
            None,
            worst.limit if worst else 0.0,
            worst.unit if worst else SHARE,
            "at_most" if worst and worst.unit != SHARE else "equal",
        ),
        exact,
        said,
        by_reason(absent),
    )


SHARE = "of values non-finite"
RANGE = "of fp16's largest number"


def _evaluated(case: Case) -> Mapping[str, list[_Record]]:
    """The records of evaluations at fp16, by trial: one for each set and way of tiling."""
    images = case.ground.own.frame.images
    if images.empty:
        return {}
    rows = images[
        (images["source"] == "evaluation")
        & (images["inference_precision"] == "fp16")
        & (images["metric"] == "non_finite")
    ]
    steps = {row["trial"]: row["step"] for row in case.rows.values()}
    found: dict[str, list[_Record]] = {}
    for (trial, name), part in rows.groupby(["trial", "set"], sort=True, observed=True):
        part = part[part["step"] == steps.get(trial)]  # weights of another step are not the final
        if part.empty:
            continue
        worst = float(part["value"].max(skipna=False))
        said = f"{worst:.2%} of an image's values are not finite on {name}"
        found.setdefault(str(trial), []).append(_Record(worst, SHARE, 0.0, worst == 0, said))
    return found


def _probed(shares: Mapping[str, float], trial: str) -> Iterator[_Record]:
    if trial in shares:
        share = shares[trial]
        said = f"a layer's output is {share:.3g} times fp16's largest number"
        yield _Record(share, RANGE, 1.0, share < 1, said)
