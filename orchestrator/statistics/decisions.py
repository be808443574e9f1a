"""Decisions from an interval: superiority, non-inferiority and equivalence, each with a margin.

The difference is that of a candidate minus its reference, in the unit of the score, and more is
better. alpha is 1 minus the interval's level. Each verdict is one of three:

- "holds" and "fails" are both statements with an error rate,
- "undecided" says that the data allow both. It never means "no difference".

The two one-sided questions are asked at alpha / 2, so that "holds" is the same as the whole
interval lying beyond the margin (ICH E9, 5.5). Equivalence is asked by two one-sided tests at alpha
each (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657), which is the same as the interval of
level 1 - 2 alpha lying within the margins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import scipy
from scipy import special

from orchestrator.statistics.interval import Interval, Unknown

Verdict = Literal["holds", "fails", "undecided"]

SMALLEST_LOG_P = -100.0  # a smaller p changes no verdict, and t has no quantiles further out


@dataclass(frozen=True)
class Decision:
    """A verdict on one question.

    `p_value` is that of the test which "holds" rests on, None where there is no interval; `reason`
    then says why.
    """

    verdict: Verdict
    p_value: float | None
    margin: float
    reason: str = ""


def superiority(difference: Interval | Unknown, margin: float = 0.0) -> Decision:
    """Whether the candidate is better by more than `margin`; fails if it is surely not.

    Raises:
        ValueError: the margin is not a finite number of at least 0.
    """
    return _beyond(difference, _margin(margin), margin)


def non_inferiority(difference: Interval | Unknown, margin: float) -> Decision:
    """Whether the candidate is worse by less than `margin`; fails if it is surely worse by more.

    Raises:
        ValueError: the margin is not a finite number of at least 0.
    """
    return _beyond(difference, -_margin(margin), margin)


def equivalence(difference: Interval | Unknown, margin: float) -> Decision:
    """Whether the two differ by less than `margin` either way; fails if they surely differ by more.

    Raises:
        ValueError: the margin is not a finite number of at least 0.
    """
    _margin(margin)
    if isinstance(difference, Unknown) or difference.standard_error == 0:
        return _undecided(difference, margin)
    p = max(p_greater(difference, -margin), p_less(difference, margin))
    if p < 1 - difference.level:
        return Decision("holds", p, margin)
    apart = difference.low > margin or difference.high < -margin
    return Decision("fails" if apart else "undecided", p, margin)


def p_differs(difference: Interval, value: float = 0.0) -> float:
    """The two-sided p-value of t for a true difference of `value`."""
    return min(1.0, 2 * min(p_greater(difference, value), p_less(difference, value)))


def p_greater(difference: Interval, value: float = 0.0) -> float:
    """The one-sided p-value against a true difference of at most `value`."""
    return _tail(difference.estimate - value, difference)


def p_less(difference: Interval, value: float = 0.0) -> float:
    """The one-sided p-value against a true difference of at least `value`."""
    return _tail(value - difference.estimate, difference)


def _tail(excess: float, difference: Interval) -> float:
    """P(T > excess / standard error); 1 for an interval without an error, which is no evidence.

    With several parts it is the p at which the half width of level 1 - 2 p is the excess.
    """
    if difference.standard_error == 0:
        return 1.0
    if not difference.parts:
        t = excess / difference.standard_error
        return float(special.stdtr(difference.degrees_of_freedom, -t))
    if excess < 0:
        return 1 - _tail(-excess, difference)

    def beyond(log_p: float) -> float:
        halves = (
            float(special.stdtrit(part.degrees_of_freedom, math.exp(log_p))) ** 2 * part.squared
            for part in difference.parts
        )
        return math.sqrt(sum(halves)) - excess

    if beyond(SMALLEST_LOG_P) < 0:
        return math.exp(SMALLEST_LOG_P)
    return math.exp(scipy.optimize.brentq(beyond, SMALLEST_LOG_P, math.log(0.5)))


def _undecided(difference: Interval | Unknown, margin: float) -> Decision:
    reason = difference.reason if isinstance(difference, Unknown) else "the standard error is zero"
    return Decision("undecided", None, margin, reason)


def _beyond(difference: Interval | Unknown, value: float, margin: float) -> Decision:
    if isinstance(difference, Unknown) or difference.standard_error == 0:
        return _undecided(difference, margin)
    p = p_greater(difference, value)
    if difference.low > value:
        return Decision("holds", p, margin)
    return Decision("fails" if difference.high < value else "undecided", p, margin)


def _margin(margin: float) -> float:
    if not 0 <= margin < float("inf"):
        raise ValueError(f"a margin of {margin}: give a finite number of at least 0")
    return margin
