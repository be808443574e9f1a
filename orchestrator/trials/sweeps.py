"""`normsweep diff`: of two trials, two sweeps, or one sweep before and after a date.

Trials of two sweeps make a pair if they have one name, such as `i_ln sr_x2 w24 d2 swinir-tiny s0`:
an id changes with whatever may change the weights. Fields of `training` that are axes of a sweep
are part of the name. Of several trials with one name, the one that ended last counts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import UserError
from orchestrator.plan.show import table, trials_in_words
from orchestrator.plan.sweep import SWEEP_NAME
from orchestrator.store.base import Store
from orchestrator.store.journals import READERS
from orchestrator.store.names import trials_of_sweep
from orchestrator.store.results import stated_result
from orchestrator.store.trials import trial_ids
from orchestrator.trials import differ
from orchestrator.trials.differ import Field, Side, differences, scores_as_json, side_of
from trainers.spec import RunSpec, TrainingSpec

QUALITY = "/psnr"


@dataclass(frozen=True)
class Since:
    """A moment, in seconds since 1970, and the date as it was given."""

    given: str
    time: float


@dataclass(frozen=True)
class Group:
    """The trials of a sweep that count, by name. `which` says which ones those are."""

    sweep: str
    which: str
    trials: Mapping[str, Side]
    uncounted: int  # trials of the sweep that have ended, and are left out by date or by name

    def __str__(self) -> str:
        more = f" ({self.uncounted} others are not counted)" if self.uncounted else ""
        return f"{self.sweep}, {trials_in_words(len(self.trials))} {self.which}{more}"


@dataclass(frozen=True)
class Compared:
    """Two groups of trials. `fields` counts the pairs in which a field differs in one way."""

    one: Group
    other: Group
    fields: Counter[Field]

    @property
    def pairs(self) -> list[str]:
        return [name for name in self.one.trials if name in self.other.trials]


def moment(given: str, now: datetime) -> Since:
    """The moment that a flag gives: a date, or a date and a time; UTC unless it says otherwise.

    Raises UserError for a text that is neither, and for one in the future.
    """
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise UserError(
            f"--since {given}: not a date. Write it as {now:%Y-%m-%d}, or as {now:%Y-%m-%dT%H:%M} "
            "(UTC)."
        ) from None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    if found > now:
        raise UserError(f"--since {given}: is in the future. It is {now:%Y-%m-%dT%H:%M} (UTC).")
    return Since(given, found.timestamp())


def difference(
    store: Store, one: str, other: str | None, after: Since | None
) -> tuple[str, dict[str, Any]]:
    """The difference of two trials or sweeps, or of one sweep's dates: as text, and as JSON.

    Raises UserError for names that are unknown or do not fit together, and for a trial that ended
    before `after`.
    """
    are_sweeps = [_is_sweep(store, name) for name in (one, other) if name is not None]
    if len(set(are_sweeps)) > 1:
        raise UserError(f"Of {one} and {other}, only one is a sweep: give two sweeps, or trials.")
    if other is not None and not are_sweeps[0]:
        trials = differ.compare(store, one, other)
        if after is not None:
            for side in (trials.one, trials.other):
                _check_ended(side, after)
        return differ.as_text(trials), differ.as_json(trials)
    if other is not None:
        which = "that have ended" if after is None else f"that ended since {after.given}"
        begin = -math.inf if after is None else after.time
        windows = [Window(sweep, which, begin, math.inf) for sweep in (one, other)]
    elif after is not None and are_sweeps[0]:
        windows = [
            Window(one, f"that ended before {after.given}", -math.inf, after.time),
            Window(one, f"that ended since {after.given}", after.time, math.inf),
        ]
    else:
        raise UserError(
            f"{one} alone cannot be compared: give a second trial, or a sweep of the store with "
            "--since DATE."
        )
    found = _compared(store, windows)
    return as_text(found), as_json(found)


def _is_sweep(store: Store, given: str) -> bool:
    """Whether a sweep of this name was run or submitted with the store."""
    return re.fullmatch(SWEEP_NAME, given) is not None and bool(trials_of_sweep(store, given))


def _check_ended(side: Side, after: Since) -> None:
    """Raise UserError if a trial has not ended since the moment, so that it would not count."""
    ended = math.nan if side.look.result is None else float(side.look.result["ended"])
    if math.isnan(ended):
        raise UserError(f"--since {after.given}: trial {side.id} has not ended.")
    if ended < after.time:
        at = datetime.fromtimestamp(ended, UTC)
        raise UserError(
            f"--since {after.given}: trial {side.id} ended before, at {at:%Y-%m-%dT%H:%M} (UTC)."
        )


@dataclass(frozen=True)
class Window:
    """Which trials of a sweep count: those that ended from `begin` on and before `end`."""

    sweep: str
    which: str
    begin: float
    end: float


def _compared(store: Store, windows: Sequence[Window]) -> Compared:
    ended = _ended(store)
    ids: list[list[str]] = []
    counted: list[list[str]] = []
    for window in windows:
        now = set(trials_of_sweep(store, window.sweep))
        ids.append(
            [trial for trial in ended if trial in now or ended[trial]["sweep"] == window.sweep]
        )
        counted.append(
            [t for t in ids[-1] if window.begin <= float(ended[t]["ended"]) < window.end]
        )
    every = list(dict.fromkeys(trial for some in counted for trial in some))
    with ThreadPoolExecutor(READERS) as readers:
        read = readers.map(lambda trial: side_of(store, trial), every)
        sides = dict(zip(every, read, strict=True))
    axes = _axes_of_training(
        [[sides[t] for t in trials_of_sweep(store, w.sweep) if t in sides] for w in windows]
    )
    groups = []
    for window, known, some in zip(windows, ids, counted, strict=True):
        named = {_name(sides[trial], axes): sides[trial] for trial in some}
        left = len(known) - len(named)
        groups.append(Group(window.sweep, window.which, dict(sorted(named.items())), left))
    one, other = groups
    fields = Counter(
        field
        for name in one.trials
        if name in other.trials
        for part in differences(one.trials[name], other.trials[name])
        for field in part
    )
    return Compared(one, other, fields)


def _ended(store: Store) -> dict[str, Mapping[str, Any]]:
    """The results of all trials that have ended, by id, the first that ended first."""
    known = trial_ids(store)
    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(lambda trial: stated_result(store, trial), known))
    results = {t: one for t, one in zip(known, found, strict=True) if isinstance(one, dict)}
    return dict(sorted(results.items(), key=lambda item: float(item[1]["ended"])))


def _axes_of_training(sweeps: Iterable[Iterable[Side]]) -> list[str]:
    """The fields of `training` in which trials of one sweep differ that have one name."""
    found: set[str] = set()
    for sides in sweeps:
        first: dict[str, RunSpec] = {}
        for side in sides:
            if side.spec is not None:
                one = first.setdefault(side.name, side.spec).training
                found |= {n for n in type(one).model_fields if _differ(one, side.spec.training, n)}
    return sorted(found)


def _differ(one: TrainingSpec, other: TrainingSpec, field: str) -> bool:
    return bool(getattr(one, field) != getattr(other, field))


def _name(side: Side, axes: Iterable[str]) -> str:
    if side.spec is None:
        return side.id
    return " ".join([side.name, *(f"{f}={getattr(side.spec.training, f)}" for f in axes)])


def as_text(found: Compared) -> str:
    """The two groups, in what pairs differ, and the last PSNR of both of each pair."""
    lines = [f"A: {found.one}", f"B: {found.other}", ""]
    pairs = len(found.pairs)
    if found.fields:
        rows = [(*field, f"{n} of {pairs}") for field, n in found.fields.most_common()]
        lines += [*table([("field", "A", "B", "pairs"), *rows]), ""]
    elif pairs:
        lines += ["Nothing that was recorded differs in any pair.", ""]
    if scores := list(_scores(found)):
        lines += [*table([("trial", "last score", "A", "B", "B - A"), *scores]), ""]
    elif not pairs:
        lines += ["No trial of A has the name of one of B.", ""]
    for letter, group, others in (("A", found.one, found.other), ("B", found.other, found.one)):
        alone = [name for name in group.trials if name not in others.trials]
        lines += [f"only {letter}: {name} ({group.trials[name].id})" for name in alone]
    return "\n".join(lines).rstrip()


def as_json(found: Compared) -> dict[str, Any]:
    """The comparison as JSON, with all last scores of each trial that counts."""
    groups = {
        letter: {
            "sweep": group.sweep,
            "which": group.which,
            "uncounted": group.uncounted,
            "trials": [
                {"id": side.id, "name": name, "scores": scores_as_json(side)}
                for name, side in group.trials.items()
            ],
        }
        for letter, group in (("a", found.one), ("b", found.other))
    }
    fields = [
        {"field": field, "a": a, "b": b, "pairs": n} for (field, a, b), n in found.fields.items()
    ]
    return {**groups, "pairs": found.pairs, "fields": fields}


def _scores(found: Compared) -> Iterator[tuple[str, ...]]:
    for name in found.pairs:
        one, other = found.one.trials[name].scores, found.other.trials[name].scores
        for score in one:
            if score.endswith(QUALITY) and score in other:
                a, b = one[score], other[score]
                yield name, score, f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}"
