"""Recorded metrics at the last step of a case's trials."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping

from orchestrator.plan.states import State
from orchestrator.regression.cases import Case
from orchestrator.report.frame import Frame, in_words
from orchestrator.statistics.interval import Unknown

MOST_NAMED = 3


def names_in(frame: Frame, wanted: re.Pattern[str]) -> list[str]:
    """The recorded metrics that are wholly matched, in order of appearance."""
    return [str(name) for name in frame.points["metric"].unique() if wanted.fullmatch(str(name))]


def lasts(
    case: Case, wanted: re.Pattern[str], of: Callable[[Iterable[float]], float], missing: str
) -> dict[int, float | Unknown]:
    """One number per seed: of the values of all wanted metrics at the trial's last step.

    A value that is not a number makes it one that is not. `missing` is said where there is none.
    Trials that were trained otherwise than most of the candidate's are left out, and named.
    """
    frame = case.ground.own.frame
    apart = {} if case.unavailable else case.ground.own.by_commit(case.cell)
    values: dict[str, list[float]] = {}
    for name in names_in(frame, wanted):
        for trial, value in last_values(frame, name).items():
            values.setdefault(trial, []).append(value)
    found: dict[int, float | Unknown] = {}
    for seed, row in case.rows.items():
        trial = row["trial"]
        if row["state"] != State.DONE:
            found[seed] = Unknown(in_words(row))
        elif trial in apart:
            found[seed] = Unknown(apart[trial])
        elif trial not in values:
            found[seed] = Unknown(_reason(frame, trial, wanted) or missing)
        else:
            own = values[trial]
            found[seed] = math.nan if any(map(math.isnan, own)) else of(own)
    return found


def last_values(frame: Frame, name: str) -> dict[str, float]:
    """A metric's values at the last step, by trial, of those that completed."""
    done = frame.trials[frame.trials["state"] == State.DONE]
    ends = dict(zip(done["trial"], done["step"], strict=True))
    rows = frame.metric(name)
    rows = rows[rows["step"].isin(set(ends.values()))]
    return {
        str(trial): float(value)
        for trial, step, value in zip(rows["trial"], rows["step"], rows["value"], strict=True)
        if ends.get(trial) == step
    }


def _reason(frame: Frame, trial: str, wanted: re.Pattern[str]) -> str:
    """What a probe says of the wanted metrics of a trial that have no value, if anything."""
    said: Mapping[str, str] = frame.looks[trial].undefined
    return next((f"undefined: {why}" for name, why in said.items() if wanted.fullmatch(name)), "")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The recorded metrics that may be meant by a name that none has: `train/loss` for `loss`."""
    names = sorted(set(known))
    ends = [one for one in names if one.endswith(f"/{name}") or f"/{name}/" in one]
    close = difflib.get_close_matches(name, names, n=MOST_NAMED, cutoff=0.4)
    return list(dict.fromkeys([*ends, *close]))[:MOST_NAMED]
