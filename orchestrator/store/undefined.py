"""Why probes have measured nothing: the events `undefined` of a trial's journals."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import TypeAdapter, ValidationError

from orchestrator.store.journals import Event
from orchestrator.store.records import Name, Shape, Text


class UndefinedShape(Shape):
    """The event `undefined`: a sentence for each scalar that has no value, by its name."""

    probe: Name
    reasons: dict[Name, Text]


UNDEFINED = TypeAdapter(UndefinedShape)


def undefined_in(events: Iterable[Event]) -> dict[str, str]:
    """The reason for each scalar, or beginning of the names of scalars, that has no value.

    What a probe said last counts. Events of another shape are passed over.
    """
    last: dict[str, dict[str, str]] = {}
    for event in events:
        if event.record.get("event") != "undefined":
            continue
        try:
            said = UNDEFINED.validate_python(event.record)
        except ValidationError:
            continue
        last[said.probe] = said.reasons
    return {name: why for reasons in last.values() for name, why in reasons.items()}
