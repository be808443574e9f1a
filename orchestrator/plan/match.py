"""Labels of the values on a point's axes, and matches on them: `exclude`, `include`, `match`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from trainers.spec import Choice

Labels = Mapping[str, Any]  # axis -> label
Accepted = Mapping[str, frozenset[Any]]  # axis -> the labels that a match accepts


def label_of(value: Any) -> Any:
    """How a value is written for people and matched: a name, `i_ln[eps=0.001]`, or a number."""
    if not isinstance(value, Choice):
        return value
    knobs = ",".join(f"{name}={_knob(given)}" for name, given in sorted(value.knobs.items()))
    return f"{value.name}[{knobs}]" if knobs else value.name


def accepted_labels(wanted: Any) -> frozenset[Any]:
    """What a match accepts on an axis for which it gives `wanted`: a value or a list of them."""
    labels = (_as_label(item) for item in (wanted if isinstance(wanted, list) else [wanted]))
    return frozenset(label for label in labels if not isinstance(label, list | dict))  # no label is a list


def matches(labels: Labels, accepted: Accepted) -> bool:
    return all(labels[axis] in values for axis, values in accepted.items())


def _knob(given: Any) -> str:
    return "-".join(map(str, given)) if isinstance(given, tuple) else str(given)


def _as_label(item: Any) -> Any:
    """The label of a value as a match writes it."""
    try:
        return label_of(Choice.model_validate(item)) if isinstance(item, dict) else item
    except ValidationError:
        return item
