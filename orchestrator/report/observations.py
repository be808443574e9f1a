"""Final values of what the probes other than `features` have measured, over the seeds.

Scalars of a place in the network, such as `scale/group_0/block_1/branch_0`, are read as a `kind`
(`scale`) and a `place`. The value of a trial is that of its last step, if it completed. A trial
without one is named: by its state, by what it was trained with, or by the probe's own reason.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from orchestrator.plan.states import State
from orchestrator.report.frame import Frame, in_words
from orchestrator.report.growths import Row, lines_of, trained_apart

# What training, evaluations and the probe `features` record has sections of its own; what the
# machine was doing is for MLflow.
SHOWN_ELSEWHERE = re.compile(
    r"(train|val|system)/|feature/(mean_square|max_abs)/group_\d+$|feature/entropy(_normalised)?$"
)
PLACE = re.compile(r"/(group_\d+(?:/.+)?)$")
NOT_MEASURED = "not measured"
UNDEFINED = "undefined: "


@dataclass(frozen=True)
class Observed:
    """One scalar of one norm at one size, task and recipe.

    `labels` are the values of all axes but the repetitions, `values` the final ones by trial.
    `mean` and `sd` are over seeds: None where there is none, and the mean also where a value is not
    a number. `missing` says why seeds have no value: `undefined: the final norm has no bias`.
    """

    labels: Mapping[str, Any]
    size: str
    metric: str
    values: Mapping[str, float]
    missing: tuple[str, ...]

    @property
    def kind(self) -> str:
        return PLACE.sub("", self.metric)

    @property
    def place(self) -> str:
        """`group_0/block_1`; "" for a scalar of the whole network."""
        found = PLACE.search(self.metric)
        return found[1] if found else ""

    @property
    def mean(self) -> float | None:
        values = list(self.values.values())
        if not values or any(map(math.isnan, values)) or {math.inf, -math.inf} <= set(values):
            return None
        return statistics.fmean(values)

    @property
    def sd(self) -> float | None:
        values = list(self.values.values())
        return (
            statistics.stdev(values)
            if len(values) > 1 and all(map(math.isfinite, values))
            else None
        )


def observations(frame: Frame) -> tuple[Observed, ...]:
    """Every scalar of every line, in file order; none if no other probe has measured anything."""
    names = [str(n) for n in frame.points["metric"].unique() if not SHOWN_ELSEWHERE.match(str(n))]
    reasons = {trial: look.undefined for trial, look in frame.looks.items() if look.undefined}
    said = {name for why in reasons.values() for name in why if not SHOWN_ELSEWHERE.match(name)}
    placed = {PLACE.sub("", name) for name in names if PLACE.search(name)}
    # `scale` is what a network without any says, where others have `scale/group_0/block_0/...`.
    listed = [*names, *(name for name in sorted(said - set(names)) if name not in placed)]
    if not listed:
        return ()
    values = _final_values(frame, names)

    def said_of(name: str, rows: Sequence[Row]) -> bool:
        return any(name in reasons.get(row["trial"], {}) for row in rows)

    found = []
    for labels, rows in lines_of(frame):
        apart = trained_apart(frame, rows)
        for metric in sorted(set(listed), key=in_order):
            seen = _observed(labels, rows, metric, values.get(metric, {}), reasons, apart)
            if seen.values or not seen.place or said_of(metric, rows):
                found.append(seen)
        found += [
            _observed(labels, rows, kind, {}, reasons, apart)
            for kind in sorted(placed - set(listed))
            if said_of(kind, rows)
        ]
    return tuple(found)


def in_order(metric: str) -> tuple[str | int, ...]:
    """A key that sorts `group_10` after `group_9`, and the whole network before its places."""
    parts = re.split(r"(\d+)", metric)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts))


def as_frame(frame: Frame, found: Sequence[Observed]) -> pd.DataFrame:
    """The values, as probes.csv has them."""
    columns = [axis.name for axis in frame.axes if axis.role != "repeat"]
    columns += ["size", "metric", "mean", "sd", "seeds", "missing"]
    rows = [
        [
            *line.labels.values(),
            *(line.size, line.metric, line.mean, line.sd, len(line.values)),
            "; ".join(line.missing),
        ]
        for line in found
    ]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _final_values(frame: Frame, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """The values at the last step of the trials that completed, by metric and trial."""
    trials = frame.trials[frame.trials["state"] == State.DONE]
    done = dict(zip(trials["trial"], trials["step"], strict=True))
    points = frame.ends.metrics(lambda metric: metric in names)
    last = points[points["trial"].map(done).astype(float) == points["step"]]
    values: dict[str, dict[str, float]] = {}
    for trial, metric, value in zip(last["trial"], last["metric"], last["value"], strict=True):
        values.setdefault(str(metric), {})[str(trial)] = float(value)
    return values


def _observed(
    labels: Row,
    rows: Sequence[Row],
    metric: str,
    values: Mapping[str, float],
    reasons: Mapping[str, Mapping[str, str]],
    apart: Mapping[str, str],
) -> Observed:
    known = {
        row["trial"]: values[row["trial"]]
        for row in rows
        if row["trial"] in values and row["trial"] not in apart
    }
    absent = Counter(
        _why_missing(row, metric, reasons.get(row["trial"], {}), apart)
        for row in rows
        if row["trial"] not in known
    )
    missing = [
        why if count in (1, len(rows)) else f"{count} {why}" for why, count in absent.items()
    ]
    if not_numbers := sum(map(math.isnan, known.values())):
        missing.append(f"not a number in {not_numbers} of {len(known)} seeds")
    return Observed(labels, str(rows[0]["size"]), metric, known, tuple(missing))


def _why_missing(
    row: Row, metric: str, reasons: Mapping[str, str], apart: Mapping[str, str]
) -> str:
    if row["trial"] in apart:
        return f"left out ({apart[row['trial']]})"
    if row["state"] != State.DONE:
        return in_words(row)
    why = next(
        (why for name, why in reasons.items() if metric == name or metric.startswith(f"{name}/")),
        None,
    )
    return f"{UNDEFINED}{why}" if why is not None else NOT_MEASURED
