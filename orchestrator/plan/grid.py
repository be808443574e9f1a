"""The points of a sweep: the product of its axes in file order, minus `exclude`, plus `include`.

They are counted before they are built, since a short file can describe billions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.plan.axes import AXES, CATALOGS, LARGEST_GRID, Axis, axes_named
from orchestrator.plan.limits import shown
from orchestrator.plan.match import Accepted, matches
from orchestrator.plan.source import Location, Source
from orchestrator.plan.sweep import Sweep, unknown_axis
from trainers.catalog import TASKS, BadKnob, KnobValue
from trainers.choice import Choice
from trainers.shape import BadSize, Shape


@dataclass(frozen=True)
class Value:
    """One value of an axis, its label for people, and its place in the file."""

    value: Any
    label: Any
    location: Location


@dataclass(frozen=True)
class Point:
    """One value per axis.

    `labels` are what people read; `backbone` has all knobs, at the point's width and depth.
    """

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
    """The points of one sweep; problems are passed to `problem`."""

    def __init__(
        self, source: Source, sweep: Sweep, problem: Callable[[Location, str], None]
    ) -> None:
        self._source = source
        self._sweep = sweep
        self._problem = problem
        written = [name for name, values in source.value["axes"].items() if values is not None]
        added = [name for addition in sweep.include for name in addition if name in AXES]
        names = dict.fromkeys([*written, *(axis.name for axis in axes_named(added))])
        self._axes = {name: self._values(AXES[name]) for name in names}
        self._added = [self._included(i, addition) for i, addition in enumerate(sweep.include)]

    @property
    def size(self) -> int:
        """The number of points, including those that `exclude` takes out; none is built for it."""
        return sum(math.prod(map(len, axes.values())) for axes in (self._axes, *self._added))

    def labelled(self, axis: str) -> dict[Any, Any]:
        """The values of an axis by label, with those that only an `include` adds."""
        parts = (self._axes, *self._added)
        return {value.label: value.value for axes in parts for value in axes[axis]}

    def points(self) -> tuple[list[Point], list[Excluded]]:
        """The points to train, and those left out. Call it for at most LARGEST_GRID points only."""
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
                self._problem(
                    ("exclude", i), "matches no point of the grid; leave it out, or correct it"
                )
        for axes in self._added:
            kept += self._product(axes)
        if not kept:
            self._problem(("exclude",), "leaves no trial")
        return kept, excluded

    def check_size(self) -> bool:
        """Whether the grid is small enough to be built; reports a problem if it is not."""
        if self.size <= LARGEST_GRID:
            return True
        if self.size < 10**12:
            message = f"{self.size:,} trials are more than {LARGEST_GRID:,}: split the sweep"
        else:
            message = f"far more than {LARGEST_GRID:,} trials: split the sweep"
        self._problem(("axes",), message)
        return False

    def rule(self, location: Location, rule: Mapping[str, Any]) -> Accepted:
        """The labels that a match accepts, by axis; for each it gives a value or a list of them."""
        accepted: dict[str, frozenset[Any]] = {}
        for name, wanted in rule.items():
            if name not in AXES:
                self._problem((*location, name), unknown_axis(name))
            elif name not in self._axes:
                self._problem(
                    (*location, name), f"is not an axis of this sweep: add `{name}` to `axes`"
                )
            else:
                accepted[name] = AXES[name].accepted(wanted)
        return accepted

    def _values(self, axis: Axis) -> list[Value]:
        given = getattr(self._sweep.axes, axis.name)
        if given is None:
            return [self._left_out(axis)]
        values: dict[Any, Value] = {}
        for i, written in enumerate(given):
            spread = axis.spread(written)
            for value in spread:
                label = axis.label_of(value)
                if label in values and spread == [written]:
                    self._problem(("axes", axis.name, i), f"{label} is in this axis already")
                values.setdefault(label, Value(value, label, ("axes", axis.name, i)))
        return list(values.values())

    def _left_out(self, axis: Axis) -> Value:
        """The value of the points on an axis that `axes` does not name."""
        field = axis.field_of("training")
        if field is None:
            return Value(None, None, ("axes",))
        value = getattr(self._sweep.training, field)
        return Value(value, axis.label_of(value), ("training", field))

    def _included(self, i: int, addition: Mapping[str, Any]) -> Mapping[str, list[Value]]:
        """The axes of the points that one `include` adds."""
        axes = dict(self._axes)
        for name, wanted in addition.items():
            location: Location = ("include", i, name)
            if name not in AXES:
                self._problem(location, unknown_axis(name))
                continue
            axis = AXES[name]
            items = axis.each(wanted)
            if len(items) > axis.most:
                self._problem(location, f"has {len(items)} values; at most {axis.most} fit")
                items = []
            given = [self._added_value(axis, item, location) for item in items]
            axes[name] = [value for value in given if value is not None]
        return axes

    def _added_value(self, axis: Axis, item: Any, location: Location) -> Value | None:
        try:
            value = axis.checked(item)
        except ValidationError as error:
            wrong = error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("Input ")
            right = (
                "must be a name or {name, knob: value}" if axis.catalog else f"{axis.name} {wrong}"
            )
            self._problem(location, f"{right}, not {shown(item)}")
        except ValueError as error:
            self._problem(location, str(error))
        else:
            return Value(value, axis.label_of(value), location)
        return None

    def _product(self, axes: Mapping[str, list[Value]]) -> list[Point]:
        return [
            self._point(dict(zip(axes, values, strict=True)))
            for values in itertools.product(*axes.values())
        ]

    def _point(self, values: Mapping[str, Value]) -> Point:
        backbone = self._backbone(values)
        labels = {axis: value.label for axis, value in values.items()}
        # Axes that are left out show the value that the backbone or the task gives them.
        width, depth = _shape(backbone).size(backbone.knobs)
        if labels["width"] is None:
            labels["width"] = width
        if labels["depth"] is None:
            labels["depth"] = depth
        for name in values:
            if labels[name] is None and (knob := AXES[name].field_of("backbone")) is not None:
                labels[name] = backbone[knob]
        if "patch_size_px" in values and values["patch_size_px"].value is None:
            labels["patch_size_px"] = _patch_size_px(values["task"].value)
        return Point(values, labels, backbone)

    def _backbone(self, values: Mapping[str, Value]) -> Choice:
        """The backbone at the point's width and depth."""
        choice: Choice = values["backbone"].value
        name, knobs = CATALOGS["backbone"].resolve(choice.name, choice.knobs)
        for axis, value in values.items():
            if (knob := AXES[axis].field_of("backbone")) is not None and value.value is not None:
                name, knobs = self._with_knob(name, knobs, knob, value)
        whole = Choice(name=name, knobs=knobs)
        try:
            sized = _shape(whole).sized(knobs, values["width"].value, values["depth"].value)
        except BadSize as error:
            self._problem(values[error.axis].location, str(error))
            return whole  # planning goes on, to find other problems
        return Choice(name=name, knobs=dict(sized))

    def _with_knob(
        self, name: str, knobs: dict[str, KnobValue], knob: str, value: Value
    ) -> tuple[str, dict[str, KnobValue]]:
        try:
            return CATALOGS["backbone"].resolve(name, {**knobs, knob: value.value})
        except BadKnob as error:
            self._problem(value.location, str(error))
            return name, knobs


def _shape(backbone: Choice) -> Shape:
    shape = CATALOGS["backbone"][backbone.name].shape
    assert shape is not None  # read_sweep lets no backbone from outside in
    return shape


def _patch_size_px(task: Choice) -> int:
    """The side of a training patch if the sweep leaves it to the task."""
    name, _ = CATALOGS["task"].resolve(task.name, task.knobs)
    side: int = TASKS[name].facts["patch_size_px"]
    return side
