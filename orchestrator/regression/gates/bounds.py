"""`at_most` and `at_least`: bounds of any recorded metric at the last step of training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from orchestrator.regression.cases import Case
from orchestrator.regression.last import lasts, nearest
from orchestrator.regression.measured import Measured
from orchestrator.regression.seeds import Limit, of_seeds
from orchestrator.statistics.interval import Unknown


def at_most(case: Case) -> Iterator[Measured]:
    for metric, bound in case.asked.at_most.items():
        yield _bounded(case, "at_most", metric, bound)


def at_least(case: Case) -> Iterator[Measured]:
    for metric, bound in case.asked.at_least.items():
        yield _bounded(case, "at_least", metric, bound)


def _bounded(
    case: Case, sense: Literal["at_most", "at_least"], metric: str, bound: float
) -> Measured:
    known = {str(name) for name in case.ground.own.frame.points["metric"].unique()}
    missing = f"it recorded no {metric} at its last step"
    if metric not in known:
        close = nearest(metric, known)
        meant = f". Recorded are {', '.join(close)}" if close else ""
        missing = f"no trial recorded {metric}{meant}"
    limit = Limit(bound, "", sense)
    found = {
        seed: value if isinstance(value, Unknown) else limit.oriented(value)
        for seed, value in lasts(case, re.compile(re.escape(metric)), max, missing).items()
    }
    return of_seeds(case, case.key(f"{sense} {metric}"), limit, found)
