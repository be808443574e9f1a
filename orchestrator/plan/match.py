"""The labels of a point's values, and matches on them: `exclude`, `include`, `match`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from trainers.choice import Choice

Labels = Mapping[str, Any]  # axis -> label
Accepted = Mapping[str, frozenset[Any]]  # axis -> the labels that a match accepts


def label_of(value: Any) -> Any:
    """A value as people read and match it: a name, `i_ln[eps=0.001]`, or a number."""
    if not isinstance(value, Choice):
        return value
    knobs = ",".join(f"{name}={_knob(given)}" for name, given in sorted(value.knobs.items()))
    return f"{value.name}[{knobs}]" if knobs else value.name


def matches(labels: Labels, accepted: Accepted) -> bool:
    for axis, values in accepted.items():  # noqa: SIM110 - all(...) takes four times as long
        if labels[axis] not in values:
            return False
    return True


def _knob(given: Any) -> str:
    return "-".join(map(str, given)) if isinstance(given, tuple) else str(given)


def as_choice(item: Any) -> Any:
    """A value in a match; a mapping becomes an entry of a catalogue with knobs, if it is valid."""
    try:
        return Choice.model_validate(item) if isinstance(item, dict) else item
    except ValidationError:
        return item
