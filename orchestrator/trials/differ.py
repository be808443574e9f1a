"""`normsweep diff A B`: in what two trials of a store differ, and the last scores of both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.show import differing, table
from orchestrator.store.attempts import kept_spec
from orchestrator.store.base import Store
from orchestrator.store.finding import find_trial, name_of
from orchestrator.store.scores import evaluated_scores
from orchestrator.store.trials import Look, read_journals
from trainers.spec import RunSpec

ABSENT = "-"
Field = tuple[str, str, str]  # its name, A's value, B's


@dataclass(frozen=True)
class Side:
    """One of the two trials: what it is, what its attempts recorded, and its last scores."""

    id: str
    name: str
    look: Look
    spec: RunSpec | None
    recorded: Mapping[str, str]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Difference:
    """Two trials; `fields` has all that differs, `notes` what to know."""

    one: Side
    other: Side
    fields: tuple[Field, ...]
    notes: tuple[str, ...]


def compare(store: Store, one: str, other: str) -> Difference:
    """Compare two trials, each given by id, the beginning of one, or name. Raises UserError."""
    a, b = (side_of(store, find_trial(store, given)) for given in (one, other))
    in_specs, recorded = differences(a, b)
    notes = [
        f"The spec of {side.id} cannot be read, so specs are not compared."
        for side in (a, b)
        if side.spec is None
    ]
    if not notes and not in_specs and a.id != b.id:
        notes.append(
            "The specs are the same, but not the ids: the source of a norm, its revision in the "
            "catalogue, the recipe, or what a gate adds to an id has changed in between."
        )
    notes += [f"damaged: {problem}" for side in (a, b) for problem in side.look.damaged]
    return Difference(a, b, (*in_specs, *recorded), tuple(notes))


def differences(a: Side, b: Side) -> tuple[list[Field], list[Field]]:
    """The fields that differ: of the specs, if both can be read, and of what attempts recorded."""
    in_specs = differing(a.spec, b.spec) if a.spec is not None and b.spec is not None else []
    recorded = [
        (name, a.recorded.get(name, ABSENT), b.recorded.get(name, ABSENT))
        for name in dict.fromkeys([*a.recorded, *b.recorded])
    ]
    return in_specs, [(name, one, other) for name, one, other in recorded if one != other]


def as_text(found: Difference) -> str:
    """The two trials, what differs, and their scores."""
    lines = [
        f"{letter}: {side.name or '(no spec)'} ({side.id}), {_state(side)}"
        for letter, side in (("A", found.one), ("B", found.other))
    ]
    if found.fields:
        lines += ["", *table([("field", "A", "B"), *found.fields])]
    else:
        lines += ["", "Nothing that was recorded differs."]
    rows = list(_scores(found))
    if rows:
        lines += ["", *table([("last score", "A", "B"), *rows])]
    else:
        lines += ["", "Neither has been scored."]
    return "\n".join([*lines, *([""] if found.notes else []), *found.notes])


def as_json(found: Difference) -> dict[str, Any]:
    """The difference as JSON. A score that is not finite is its name: "nan", "inf", "-inf"."""
    sides = {
        letter: {
            "id": side.id,
            "name": side.name,
            "state": side.look.state,
            "step": _step(side.look),
            "scores": scores_as_json(side),
        }
        for letter, side in (("a", found.one), ("b", found.other))
    }
    fields = [{"field": field, "a": a, "b": b} for field, a, b in found.fields]
    return {**sides, "fields": fields, "notes": list(found.notes)}


def scores_as_json(side: Side) -> dict[str, float | str]:
    return {
        name: value if math.isfinite(value) else str(value) for name, value in side.scores.items()
    }


def side_of(store: Store, trial: str) -> Side:
    """What the store has of a trial."""
    look, journals = read_journals(store, trial)
    kept = kept_spec(store, trial)
    spec = look.trained[-1] if look.trained else kept if isinstance(kept, RunSpec) else None
    scores: dict[str, float] = {}
    for _, lines in journals:
        for line in lines:
            scores |= {
                name.removeprefix("val/"): float(value)
                for name, value in line.values.items()
                if name.startswith("val/") or name == "train/loss"
            }
    return Side(
        trial,
        "" if spec is None else name_of(spec),
        look,
        spec,
        dict(_recorded(look)),
        scores | _evaluated(store, look),
    )


def _recorded(look: Look) -> Iterator[tuple[str, str]]:
    """Yield what the trial's attempts recorded, each with all values that it had."""
    yield "attempts", str(len(look.attempts))
    versions = sorted({name for one in look.tried for name in one.get("versions", {})})
    for field in ("sweep", "commit", "host", "machine"):
        yield field, _joined(one.get(field) for one in look.tried)
    for name in versions:
        yield f"versions.{name}", _joined(one.get("versions", {}).get(name) for one in look.tried)
    yield "processor", _joined(rank.get("processor") for rank in look.ranks)
    identity = look.tried[-1].get("identity", {}) if look.tried else {}
    yield "recipe", str(identity.get("recipe", ABSENT))
    for field in ("backbone", "norm", "task"):
        for part in ("revision", "source"):
            yield f"{field}.{part}", str(identity.get(field, {}).get(part, ABSENT))


def _joined(values: Any) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value)) or ABSENT


def _evaluated(store: Store, look: Look) -> dict[str, float]:
    """The means over images of what `normsweep evaluate` kept."""
    found: dict[str, list[float]] = {}
    for score in evaluated_scores(store, look.evaluations)[0]:
        tile = f", tile {score.tile}" if score.tile else ""
        name = f"{score.set}/{score.metric} ({score.precision}{tile}, evaluated)"
        found.setdefault(name, []).append(score.value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _scores(found: Difference) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys([*found.one.scores, *found.other.scores]):
        values = (side.scores.get(name) for side in (found.one, found.other))
        a, b = (ABSENT if value is None else f"{value:.5g}" for value in values)
        yield name, a, b


def _state(side: Side) -> str:
    steps = 0 if side.spec is None else side.spec.training.steps
    return side.look.state.at(_step(side.look), steps)


def _step(look: Look) -> int:
    return look.step if look.result is None else int(look.result["step"])
