"""The points of a sweep: the product of its axes in file order, minus `exclude`, plus `include`; counted before it is built."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrator.plan.limits import shown
from orchestrator.plan.match import Accepted, accepted_labels, label_of, matches
from orchestrator.plan.source import Location, Source
from orchestrator.plan.sweep import AXES, CATALOGS, LARGEST_GRID, Depth, Seed, Sweep, Width, unknown
from trainers.shape import BadSize, Shape
from trainers.spec import LONGEST_LIST, Choice

NUMBERS: Mapping[str, TypeAdapter[int]] = {
    "width": TypeAdapter(Width),
    "depth": TypeAdapter(Depth),
    "seed": TypeAdapter(Seed),
}


@dataclass(frozen=True)
class Value:
    """One value of an axis: what it is, how it is written, where it stands in the file."""

    value: Any
    label: Any
    location: Location


@dataclass(frozen=True)
class Point:
    """One value per axis; `labels` are what people read, `backbone` has all knobs, at the point's width and depth."""

    values: Mapping[str, Value]
    labels: Mapping[str, Any]
    backbone: Choice


@dataclass(frozen=True)
class Excluded:
    """A point of the grid that an `exclude` took out."""

    axes: Mapping[str, Any]
    rule: Mapping[str, Any]
    line: int


class Grid:
    """The points of one sweep; what is wrong is given to `problem`."""

    def __init__(self, source: Source, sweep: Sweep, problem: Callable[[Location, str], None]) -> None:
        self._source = source
        self._sweep = sweep
        self._problem = problem
        written = [axis for axis in source.value["axes"] if axis in AXES]
        self._axes = {axis: self._values(axis) for axis in dict.fromkeys([*written, *AXES])}
        self._added = [self._included(i, addition) for i, addition in enumerate(sweep.include)]

    @property
    def size(self) -> int:
        """How many points there are, those that `exclude` takes out among them. Nothing is built to count them."""
        return sum(math.prod(map(len, axes.values())) for axes in (self._axes, *self._added))

    def points(self) -> tuple[list[Point], list[Excluded]]:
        """The points to train, and those left out. Only for a grid of at most LARGEST_GRID points."""
        kept: list[Point] = []
        excluded: list[Excluded] = []
        used: set[int] = set()
        rules = [self.rule(("exclude", i), rule) for i, rule in enumerate(self._sweep.exclude)]
        for point in self._product(self._axes):
            hits = [i for i, rule in enumerate(rules) if matches(point.labels, rule)]
            used.update(hits)
            if hits:
                line = self._source.position(("exclude", hits[0])).line
                excluded.append(Excluded(point.labels, self._sweep.exclude[hits[0]], line))
            else:
                kept.append(point)
        for i in range(len(rules)):
            if i not in used:
                self._problem(("exclude", i), "matches no point of the grid; leave it out, or mend the value")
        for axes in self._added:
            kept += self._product(axes)
        if not kept:
            self._problem(("exclude",), "leaves no trial")
        return kept, excluded

    def check_size(self) -> bool:
        """Whether the grid is small enough to be built, which is reported otherwise."""
        if self.size <= LARGEST_GRID:
            return True
        said = f"{self.size:,}" if self.size < 10**12 else "far more"
        self._problem(("axes",), f"{said} trials are more than {LARGEST_GRID:,}: split the sweep")
        return False

    def rule(self, location: Location, rule: Mapping[str, Any]) -> Accepted:
        """Per axis, the labels that a match accepts: one value or a list of them."""
        accepted: dict[str, frozenset[Any]] = {}
        for axis, wanted in rule.items():
            if axis not in AXES:
                self._problem((*location, axis), unknown("axis", axis, AXES))
                continue
            accepted[axis] = accepted_labels(wanted)
        return accepted

    def _values(self, axis: str) -> list[Value]:
        given = getattr(self._sweep.axes, axis)
        if given is None:
            return [Value(None, None, ("axes",))]
        values: dict[Any, Value] = {}
        for i, value in enumerate(given):
            label = label_of(value)
            if label in values:
                self._problem(("axes", axis, i), f"{label} stands in this axis already")
            values.setdefault(label, Value(value, label, ("axes", axis, i)))
        return list(values.values())

    def _included(self, i: int, addition: Mapping[str, Any]) -> Mapping[str, list[Value]]:
        """The axes of the points that one `include` adds."""
        axes = dict(self._axes)
        for axis, wanted in addition.items():
            location: Location = ("include", i, axis)
            if axis not in AXES:
                self._problem(location, unknown("axis", axis, AXES))
                continue
            items, most = (
                wanted if isinstance(wanted, list) else [wanted],
                LARGEST_GRID if axis in NUMBERS else LONGEST_LIST,
            )
            if len(items) > most:
                self._problem(location, f"has {len(items)} values; at most {most} fit")
                items = []
            given = [self._added_value(axis, item, location) for item in items]
            axes[axis] = [value for value in given if value is not None]
        return axes

    def _added_value(self, axis: str, item: Any, location: Location) -> Value | None:
        try:
            if axis in NUMBERS:
                return Value(NUMBERS[axis].validate_python(item, strict=True), item, location)
            value = Choice.model_validate(item)
            CATALOGS[axis].resolve(value.name, value.knobs)
            return Value(value, label_of(value), location)
        except ValidationError as error:
            wrong = error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("Input ")
            right = f"{axis} {wrong}" if axis in NUMBERS else "must be a name or {name, knob: value}"
            self._problem(location, f"{right}, not {shown(item)}")
        except ValueError as error:
            self._problem(location, str(error))
        return None

    def _product(self, axes: Mapping[str, list[Value]]) -> list[Point]:
        return [self._point(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]

    def _point(self, values: Mapping[str, Value]) -> Point:
        backbone = self._backbone(values)
        labels = {axis: value.label for axis, value in values.items()}
        width, depth = _shape(backbone).size(backbone.knobs)
        if labels["width"] is None:
            labels["width"] = width
        if labels["depth"] is None:
            labels["depth"] = depth
        return Point(values, labels, backbone)

    def _backbone(self, values: Mapping[str, Value]) -> Choice:
        """The backbone at the point's width and depth."""
        choice: Choice = values["backbone"].value
        name, knobs = CATALOGS["backbone"].resolve(choice.name, choice.knobs)
        whole = Choice(name=name, knobs=knobs)
        try:
            sized = _shape(whole).sized(knobs, values["width"].value, values["depth"].value)
        except BadSize as error:
            self._problem(values[error.axis].location, str(error))
            return whole
        return Choice(name=name, knobs=dict(sized))


def _shape(backbone: Choice) -> Shape:
    shape = CATALOGS["backbone"][backbone.name].shape
    assert shape is not None  # read_sweep lets no backbone from outside in
    return shape
