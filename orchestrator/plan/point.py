"""A point of a sweep's grid, and the values that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.source import Location
from trainers.choice import Choice


@dataclass(frozen=True, slots=True)
class Value:
    """One value of an axis, its label for people, and its place in the file.

    It is not sure if the file's own value is wrong, and this one only stands in for it.
    """

    value: Any
    label: Any
    location: Location
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class Point:
    """One value per axis.

    `labels` are what people read; `backbone` has all knobs, at the point's width and depth, unless
    it cannot have them (`is_sized` is False). Without `is_known` its knobs are not the file's.
    """

    values: Mapping[str, Value]
    labels: Mapping[str, Any]
    backbone: Choice
    is_sized: bool = True
    is_known: bool = True

    def is_sure(self, *axes: str) -> bool:
        return all(self.values[axis].is_sure for axis in axes)


@dataclass(frozen=True, slots=True)
class Excluded:
    """A point of the grid that an `exclude` took out."""

    axes: Mapping[str, Any]
    rule: Mapping[str, Any]
    line: int
