"""Verdicts on the questions of a gate: pass, fail, or undecided with what is missing.

Pass is each night's own statement: the claims' interval lies above `pass_above` (non-inferiority,
ICH E9). Fail is an alarm, whose error rate is kept over all looks: the mean is surely below
`fail_below` (orchestrator.statistics.spending), and the question does not pass.

What a look may spend is shared among the questions that are new at it (Holm). An alarm depends on
the ledger up to its own look alone, so that it is the same on every later night.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.plan.gate import Gate
from orchestrator.regression.looks import Look, history, look_of, untested
from orchestrator.regression.measured import Judged, Measured, Verdict
from orchestrator.report.claims.parts import needed_seeds
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.multiplicity import holm
from orchestrator.statistics.power import Spread, seeds_needed
from orchestrator.statistics.spending import drop, share

POWER = 0.8


@dataclass(frozen=True)
class Alarm:
    """The test of one question at its look. `p_value` is corrected for windows and questions."""

    look: int
    level: float
    p_value: float
    window: int

    @property
    def fails(self) -> bool:
        return self.p_value <= self.level


def judge(measured: Sequence[Measured], looks: Sequence[Look], gate: Gate) -> tuple[Judged, ...]:
    """The verdict on each question, in the order given.

    `looks` is the ledger with the look at which these numbers were new (`recorded`). A question
    that cannot be tested has look 0 and level 0: it spends nothing.

    Raises:
        ValueError: numbers that can be tested are in no look.
    """
    own = [None if untested(one) else look_of(one, looks) for one in measured]
    numbers = sorted({look.number for look in own if look is not None})
    alarms = {number: alarms_at(looks[:number], gate) for number in numbers}
    return tuple(
        _judged(one, alarms[look.number][one.key.text], gate, len(look.answers))
        if look is not None
        else _judged_untested(one)
        for one, look in zip(measured, own, strict=True)
    )


def overall(judged: Iterable[Judged], gate: Gate) -> Verdict:
    """The verdict of a night. A night on which nothing was judged is undecided."""
    verdicts = {one.verdict for one in judged}
    if "fail" in verdicts or ("undecided" in verdicts and gate.undecided == "fails"):
        return "fail"
    return "pass" if verdicts == {"pass"} else "undecided"


def alarms_at(looks: Sequence[Look], gate: Gate) -> dict[str, Alarm]:
    """The tests of the questions that are new at the last of these looks, by `Key.text`."""
    look = looks[-1]
    level = share(look.number, gate.error_rate, gate.looks)
    drops = [drop(history(text, looks), answer.fail_below) for text, answer in look.answers.items()]
    adjusted = holm([found.p_value for found in drops])
    return {
        text: Alarm(look.number, level, p_value, found.window)
        for text, p_value, found in zip(look.answers, adjusted, drops, strict=True)
    }


def _judged(measured: Measured, alarm: Alarm, gate: Gate, questions: int) -> Judged:
    verdict: Verdict = "fail" if alarm.fails else "undecided"
    if _passes(measured):
        verdict = "pass"
    missing = ""
    if verdict == "undecided":
        level = share(alarm.look + 1, gate.error_rate, gate.looks) / questions
        missing = _missing(measured, level)
    return Judged(measured, verdict, alarm.look, alarm.level, alarm.p_value, alarm.window, missing)


def _judged_untested(measured: Measured) -> Judged:
    verdict: Verdict
    if measured.exact is not None:
        verdict, missing = measured.exact, measured.said or "; ".join(measured.left_out)
    else:
        why = untested(measured)
        if not why:
            raise ValueError(f"{measured.key.text}: its numbers are in no look")
        verdict, missing = ("pass" if _same_bits(measured) else "undecided"), why
    return Judged(measured, verdict, 0, 0.0, None, 0, missing if verdict == "undecided" else "")


def _passes(measured: Measured) -> bool:
    interval = measured.interval
    return (
        isinstance(interval, Interval)
        and interval.standard_error > 0
        and interval.low > measured.pass_above
    )


def _same_bits(measured: Measured) -> bool:
    """Whether every seed's difference is exactly zero, and zero is allowed."""
    values = () if isinstance(measured.values, Unknown) else measured.values
    return bool(values) and not any(values) and measured.pass_above <= 0


def _missing(measured: Measured, level: float) -> str:
    """How many more seeds would decide, by a pass or by an alarm at `level`, whichever is nearer.

    More seeds are another look, and their history begins with it, so the alarm has one window.
    """
    if isinstance(measured.interval, Unknown):
        return measured.interval.reason
    values = np.array(measured.values, dtype=np.float64)
    mean = float(values.mean())
    ways: list[int | Unknown] = []
    if measured.interval.estimate > measured.pass_above:
        distance = measured.interval.estimate - measured.pass_above
        ways.append(needed_seeds(measured.interval, distance))
    if mean < measured.fail_below:
        spread = Spread(float(values.var(ddof=1)))
        distance = measured.fail_below - mean
        ways.append(seeds_needed(distance, spread, power=POWER, alpha=2 * level))
    needed = [way for way in ways if not isinstance(way, Unknown)]
    if needed:
        # They may have fallen short by chance with as many as are needed on average.
        more = max(1, min(needed) - values.size)
        return (
            f"{more} more seed{'s' * (more != 1)} ({values.size + more} in all) would decide it "
            f"with a chance of {POWER:.0%} if the true value is the one seen"
        )
    reasons = [way.reason for way in ways if isinstance(way, Unknown)]
    why = reasons[0] if reasons else "the value is at the limit itself"
    return f"more seeds, how many is not known: {why}"
