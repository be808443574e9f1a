"""Why a trial of a plan is pending although its sweep trained it before: what has changed.

The record of the sweep's last run has the ids that its trials had then. One that the plan no longer
has, and that ended, is the same cell of the grid if backbone, size, norm, task and seed are the
same, and then its identity differs in what was changed: a field of the spec, the source of a norm,
the revision of an entry, the training set. A run since then has written another record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from orchestrator.plan import Plan, Trial
from orchestrator.plan.identity import BadSource, identity
from orchestrator.plan.states import State
from orchestrator.store.base import Store
from orchestrator.store.journals import READERS
from orchestrator.store.names import trials_of_sweep
from orchestrator.store.results import ended_attempt
from trainers.catalog import BACKBONES
from trainers.spec import RunSpec

MOST_FIELDS = 4  # a trial that differs in more is another one
GATE = "gate"
HASHES = ("source", "data")  # nobody reads these


@dataclass(frozen=True)
class Change:
    """A field of an identity, with its value in the trial that ended and in the plan."""

    field: str
    then: str
    now: str

    def __str__(self) -> str:
        if self.field == GATE:
            return "the code of its norms or the version of torch, which a gate's ids cover"
        what = self.field.rpartition(".")[2]
        if what in HASHES:
            of = self.field.removesuffix(".source")
            return "the training set" if what == "data" else f"the source of its {of}"
        return f"{self.field}: {self.then} then, {self.now} now"


@dataclass(frozen=True)
class Changed:
    """A pending trial, the trial that had ended in its place, and in what they differ."""

    trial: Trial
    was: str
    changes: tuple[Change, ...]


def changed(store: Store, plan: Plan, states: Mapping[str, State]) -> list[Changed]:
    """Those pending trials of a plan that had ended before something was changed.

    Costs one read where the sweep is as it was last run, else reads of what has changed.
    """
    pending = [t for t in plan.trials if states.get(t.id, State.PENDING) == State.PENDING]
    now = {trial.id for trial in plan.trials}
    former = [trial for trial in trials_of_sweep(store, plan.sweep) if trial not in now]
    if not pending or not former:
        return []
    with ThreadPoolExecutor(READERS) as readers:
        ended = [one for one in readers.map(lambda trial: _ended(store, trial), former) if one]
    by_cell: dict[str, list[_Ended]] = {}
    for one in ended:
        by_cell.setdefault(_cell(one.spec), []).append(one)
    found = []
    for trial in pending:
        alike = [
            (tuple(_changes(one, trial.spec)), one.id) for one in by_cell.get(_cell(trial.spec), ())
        ]
        if plan.gate is not None:
            alike = [(changes or (Change(GATE, "", ""),), was) for changes, was in alike]
        few = [pair for pair in alike if 0 < len(pair[0]) <= MOST_FIELDS]
        best = min(few, key=lambda pair: len(pair[0]), default=None)
        if best is not None:
            found.append(Changed(trial, best[1], best[0]))
    return found


def as_text(found: Sequence[Changed]) -> list[str]:
    """Lines that say it, one for trials in which the same has changed."""
    if not found:
        return []
    alike: dict[str, list[Changed]] = {}
    for one in found:
        alike.setdefault("; ".join(map(str, one.changes)), []).append(one)
    lines = ["", "Pending though done before, since this has changed"]
    for said, those in alike.items():
        first = f"{those[0].trial.name}, done as {those[0].was}"
        more = f" and {len(those) - 1} more" if len(those) > 1 else ""
        lines.append(f"  {said}  ({first}{more})")
    return lines


def as_json(found: Sequence[Changed]) -> list[dict[str, Any]]:
    return [
        {"id": one.trial.id, "was": one.was, "changes": [vars(change) for change in one.changes]}
        for one in found
    ]


@dataclass(frozen=True)
class _Ended:
    id: str
    spec: RunSpec
    identity: Mapping[str, Any] | None  # None for an attempt that recorded none


def _ended(store: Store, trial: str) -> _Ended | None:
    if (found := ended_attempt(store, trial)) is None:
        return None
    _, attempt, spec = found
    return _Ended(trial, spec, attempt.get("identity"))


def _cell(spec: RunSpec) -> str:
    """What two trials must agree in to be the same cell of a grid."""
    backbone, task = spec.model.backbone, spec.task
    shape = BACKBONES[backbone.name].shape
    assert shape is not None  # no sweep has a backbone from outside
    size = shape.size(backbone.knobs)
    knobs = sorted(task.knobs.items())
    norm, seed = spec.model.norm.name, spec.training.seed
    return repr((backbone.name, size.width, size.depth, norm, task.name, knobs, seed))


def _changes(one: _Ended, spec: RunSpec) -> Iterator[Change]:
    """Yield what differs in the identities of a trial that ended and of one that is planned."""
    try:
        then = identity(one.spec) if one.identity is None else one.identity
        ours = dict(_flat("", identity(spec)))
    except (ModuleNotFoundError, BadSource):
        return
    theirs = dict(_flat("", then))
    for field in dict.fromkeys([*theirs, *ours]):
        if theirs.get(field) != ours.get(field):
            values = (_value(one.spec, theirs, field), _value(spec, ours, field))
            yield Change(field, *values)


def _value(spec: RunSpec, parts: Mapping[str, Any], field: str) -> str:
    """A part of an identity in words; one that is left out is its default, which the spec has."""
    if field in parts:
        return str(parts[field])
    section, _, name = field.partition(".")
    value = getattr(spec.training, name, None) if section == "training" else None
    return "the default" if value is None else str(value)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, inner)
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value
