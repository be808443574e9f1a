"""`step_time` and `memory`: the candidate's over the reference's, paired by seed.

A trial's step time is the median over the records of its journal, but for the first one, which has
the warming up in it. Its memory is the most that its first rank held:
on a GPU what torch had allocated, on a CPU the process's resident memory. A value is minus the
logarithm of the ratio.

Both depend on what else a machine does. So two trials are compared only where both ran whole on the
same hosts in the same run of `normsweep run` or `regress`, and in equal slices of a batch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.plan.states import State
from orchestrator.regression.cases import Case, Row
from orchestrator.regression.measured import Measured
from orchestrator.regression.seeds import Limit, of_seeds
from orchestrator.report.comparable import NOT_RECORDED, Final, differing, facts_of
from orchestrator.report.frame import in_words
from orchestrator.statistics.interval import Unknown
from orchestrator.store.trials import Look

PACE = "train/images_per_s"
MEMORY = "train/memory_gb"
IN_A_FILE = "cannot be compared: a baseline file has no part in this run, on this machine"


def step_time(case: Case) -> Iterator[Measured]:
    if case.asked.step_time is not None:
        yield _ratio(case, "step_time", case.asked.step_time, PACE, _seconds_per_image)


def memory(case: Case) -> Iterator[Measured]:
    if case.asked.memory is not None:
        yield _ratio(case, "memory", case.asked.memory, MEMORY, max)


def _seconds_per_image(paces: list[float]) -> float:
    """The median; batches are equal, so that this has the ratio of steps."""
    return 1 / statistics.median(paces[1:] or paces)


def _ratio(
    case: Case, gate: str, most: float, metric: str, of: Callable[[list[float]], float]
) -> Measured:
    limit = Limit(most, "times", "at_most", is_ratio=True)
    records = _records(case, metric)
    found: dict[int, float | Unknown] = {}
    for seed, row in sorted(case.rows.items()):
        other = case.reference_rows.get(seed)
        if case.ground.against.weights is not None:
            found[seed] = Unknown(IN_A_FILE)
        elif other is None:
            found[seed] = Unknown(f"no {case.reference}")
        elif why := _why_apart(case, row, other):
            found[seed] = Unknown(why)
        else:
            ends = [records.get(one["trial"], []) for one in (row, other)]
            found[seed] = (
                limit.oriented(of(ends[0]) / of(ends[1]))
                if all(ends)
                else Unknown(f"it recorded no {metric}")
            )
    return of_seeds(case, case.key(gate), limit, found, compared=True)


def _records(case: Case, metric: str) -> dict[str, list[float]]:
    """The records of a metric by trial, in order; only numbers that a ratio can be made of."""
    rows = case.ground.both.frame.metric(metric)
    own = {row["trial"] for of in (case.rows, case.reference_rows) for row in of.values()}
    found: dict[str, list[float]] = {}
    for trial, value in zip(rows["trial"], map(float, rows["value"]), strict=True):
        if trial in own and 0 < value < math.inf:
            found.setdefault(str(trial), []).append(value)
    return found


def _why_apart(case: Case, row: Row, other: Row) -> str:
    """Why two trials' times cannot be compared; "" if they can."""
    sides = ((row, case.norm), (other, case.reference))
    undone = [f"{norm} {in_words(one)}" for one, norm in sides if one["state"] != State.DONE]
    if undone:
        return ", ".join(undone)
    facts = [_facts(case, one["trial"]) for one, _ in sides]
    own, theirs = (Final("", {}, of) for of in facts)
    if unlike := differing(own, theirs, case.norm, case.reference):
        return unlike
    for name in WITHIN:
        if facts[0][name] == NOT_RECORDED:
            return f"{name} not recorded"
        if SEVERAL in facts[0][name]:
            return f"trained in more than one {name}: {facts[0][name]}"
    return ""


def _facts(case: Case, trial: str) -> dict[str, str]:
    """What a trial was trained with, and where."""
    frame = case.ground.both.frame
    look = frame.looks[trial]
    facts = {**facts_of(frame, trial)} | {name: _all(of(look)) for name, of in WITHIN.items()}
    for attempt in look.tried:
        for name, value in sorted(attempt.get("placement", {}).items()):
            facts[f"placement.{name}"] = str(value)
    return facts


def _all(values: Iterable[str]) -> str:
    return SEVERAL.join(dict.fromkeys(filter(None, values))) or NOT_RECORDED


# Within which the two must have been trained. The hosts are those of ranks, where they said so.
WITHIN: Mapping[str, Callable[[Look], Iterable[str]]] = {
    "run": lambda look: [attempt.get("run", "") for attempt in look.tried],
    "host": lambda look: [
        one.get("host", "") for one in (look.ranks if look.ranks else look.tried)
    ],
}
SEVERAL = ", then "
