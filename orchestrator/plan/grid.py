"""The points of a sweep: the product of its axes in file order, minus `exclude`, plus `include`.

They are counted before they are built, since a short file can describe billions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from pydantic import ValidationError

from orchestrator.plan.axes import (
    AXES,
    CATALOGS,
    COMPARED,
    LARGEST_GRID,
    MOST_NETWORKS,
    Axis,
    axes_named,
)
from orchestrator.plan.draft import Draft
from orchestrator.plan.limits import shown
from orchestrator.plan.match import Accepted, matches
from orchestrator.plan.point import Excluded, Point, Value
from orchestrator.plan.source import Location
from orchestrator.plan.sweep import unknown_axis
from trainers.catalog import TASKS, BadKnob
from trainers.choice import Choice
from trainers.errors import closest
from trainers.shape import BadSize, Shape

NETWORK = ("backbone", "width", "depth")
MOST_SAMPLED = 24  # values of each axis that a grid which is too large is tried with


class Sized(NamedTuple):
    """A backbone at a width and a depth, and the labels that follow for axes that are left out.

    `is_sized` and `is_known` are as in Point.
    """

    backbone: Choice
    is_sized: bool
    is_known: bool
    labels: Mapping[str, Any]


class Grid:
    """The points of one sweep; problems are passed to `problem`.

    It adds to `silent` the places of matches of which it cannot be said that they match nothing.
    """

    def __init__(
        self, draft: Draft, problem: Callable[[Location, str], None], silent: set[Location]
    ) -> None:
        source, sweep = draft.source, draft.sweep
        self._source = source
        self._sweep = sweep
        self._doubts = draft.doubts
        self._problem = problem
        self._holed = set(draft.doubts.axes)  # the axes of which a value is missing
        self._broken: set[Location] = set()  # matches with a problem of their own
        self._silent = silent
        written = [name for name, values in source.value["axes"].items() if values is not None]
        added = [name for addition in sweep.include for name in addition if name in AXES]
        all_of_these = [*written, *sorted(self._holed), *(a.name for a in axes_named(added))]
        names = dict.fromkeys(all_of_these)
        self._axes = {name: self._values(AXES[name]) for name in names}
        # A grid has few networks, so that what follows from one is found once. A value is known by
        # its id, as the lists of `_axes` and `_added` keep it.
        self._networks = [n for n in names if n in NETWORK or AXES[n].field_of("backbone")]
        self._sized: dict[tuple[int, ...], Sized] = {}
        self._patches: dict[int, int] = {}  # by task
        self._added = [self._included(i, addition) for i, addition in enumerate(sweep.include)]

    @property
    def size(self) -> int:
        """The number of points, including those that `exclude` takes out; none is built for it."""
        return sum(math.prod(map(len, axes.values())) for axes in (self._axes, *self._added))

    @property
    def networks(self) -> int:
        """The number of different networks among the points, each with its norm."""
        names = (*self._networks, COMPARED)
        return sum(
            math.prod(len(axes[name]) for name in names if name in axes)
            for axes in (self._axes, *self._added)
        )

    @property
    def is_too_large(self) -> bool:
        return self.size > LARGEST_GRID or self.networks > MOST_NETWORKS

    def labelled(self, axis: str) -> dict[Any, Any]:
        """The values of an axis by label, with those that only an `include` adds."""
        parts = (self._axes, *self._added)
        values = (value for axes in parts for value in axes[axis])
        return {value.label: value.value for value in values if value.is_sure}

    def is_holed(self, axis: str) -> bool:
        """Whether a value of this axis is missing, because the file is wrong about it."""
        return axis in self._holed

    def points(self) -> tuple[list[Point], list[Excluded]]:
        """The points to train, and those left out.

        Of a grid that is too large to be built, the points that differ from its first in one axis:
        enough to see what is wrong with a value.
        """
        kept: list[Point] = []
        excluded: list[Excluded] = []
        used: set[int] = set()
        rules = [self.rule(("exclude", i), rule) for i, rule in enumerate(self._sweep.exclude)]
        points = self._product(self._axes)
        for point in points:
            hits = [
                i
                for i, rule in enumerate(rules)
                if matches(point.labels, rule) and point.is_sure(*rule)
            ]
            used.update(hits)
            if hits and self._broken.issuperset(("exclude", i) for i in hits):
                continue  # nobody knows which points this was to take out
            if hits:
                line = self._source.position(("exclude", hits[0])).line
                excluded.append(Excluded(point.labels, self._sweep.exclude[hits[0]], line))
            else:
                kept.append(point)
        for i in (i for i in range(len(rules)) if i not in used):
            meant, hint = _meant(rules[i], points)
            self._problem(
                ("exclude", i), f"matches no point of the grid{hint}; leave it out, or correct it"
            )
            # What is wrong with the points that it was to take out only follows.
            kept = [point for point in kept if not matches(point.labels, meant)] or kept
        for axes in self._added:
            kept += self._product(axes)
        if excluded and not kept and not self._broken and not self.is_too_large:
            self._problem(("exclude",), "leaves no trial")
        return kept, excluded

    def check_size(self) -> None:
        """Report a grid that is too large to be built."""
        if not self.is_too_large:
            return
        if self.size <= LARGEST_GRID:
            message = (
                f"{self.networks:,} different networks, each with its norm, are more than "
                f"{MOST_NETWORKS:,}: split the sweep"
            )
        elif self.size < 10**12:
            message = f"{self.size:,} trials are more than {LARGEST_GRID:,}: split the sweep"
        else:
            message = f"far more than {LARGEST_GRID:,} trials: split the sweep"
        self._problem(("axes",), message)

    def rule(self, location: Location, rule: Mapping[str, Any]) -> Accepted:
        """The labels that a match accepts, by axis; for each it gives a value or a list of them.

        A match with a problem accepts nothing, but an `exclude` what the rest of it says.
        """
        accepted: dict[str, frozenset[Any]] = {}
        if self.is_too_large or not self._holed.isdisjoint(rule):
            self._silent.add(location)
        for name, wanted in rule.items():
            if name not in AXES:
                self._problem((*location, name), unknown_axis(name))
                self._silent.add(location)
                # It takes out points as it was probably meant to: what they lack only follows.
                meant = closest(name, self._axes) if location[0] == "exclude" else None
                if meant is not None and meant not in rule:
                    accepted[meant] = AXES[meant].accepted(wanted)
            elif name not in self._axes:
                self._problem(
                    (*location, name), f"is not an axis of this sweep: add `{name}` to `axes`"
                )
            else:
                accepted[name] = AXES[name].accepted(wanted)
        if len(accepted) < len(rule):
            self._broken.add(location)
            self._silent.add(location)
            if not accepted or location[0] != "exclude":
                accepted[COMPARED] = frozenset()
        return accepted

    def _values(self, axis: Axis) -> list[Value]:
        given = getattr(self._sweep.axes, axis.name)
        if given is None:
            return [self._left_out(axis)]
        values: dict[tuple[Any, bool], Value] = {}
        for i, written in enumerate(given):
            spread = axis.spread(written)
            for value in spread:
                label, place = axis.label_of(value), ("axes", axis.name, i)
                is_sure = not self._doubts.touch(place)
                first = values.get((label, is_sure))
                is_written = is_sure and spread == [written]
                if first and is_written and not self._doubts.guess(place, first.location):
                    self._problem(place, f"{label} is in this axis already")
                values.setdefault((label, is_sure), Value(value, label, place, is_sure))
        return [value for value in values.values() if value.is_sure] or list(values.values())

    def _left_out(self, axis: Axis) -> Value:
        """The value of the points on an axis that `axes` does not name."""
        field = axis.field_of("training")
        is_sure = not self._doubts.touch(("axes", axis.name))
        if field is None:
            return Value(None, None, ("axes",), is_sure)
        value, place = getattr(self._sweep.training, field), ("training", field)
        return Value(value, axis.label_of(value), place, is_sure and not self._doubts.touch(place))

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
            if not items or len(axes[name]) < len(given):
                self._holed.add(name)
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
        if not self.is_too_large:
            names = tuple(axes)
            chosen = (dict(zip(names, v, strict=True)) for v in itertools.product(*axes.values()))
            return [self._point(values) for values in chosen]
        if not all(axes.values()):
            return []
        first = {name: values[0] for name, values in axes.items()}
        return [
            self._point({**first, name: value})
            for name, values in axes.items()
            for value in values[:MOST_SAMPLED]
        ]

    def _point(self, values: Mapping[str, Value]) -> Point:
        key = tuple([id(values[name]) for name in self._networks])
        if (sized := self._sized.get(key)) is None:
            sized = self._sized[key] = self._size(values)
        labels = {axis: value.label for axis, value in values.items()}
        labels.update(sized.labels)
        if "patch_size_px" in values and values["patch_size_px"].value is None:
            labels["patch_size_px"] = self._patch_size_px(values["task"])
        return Point(values, labels, sized.backbone, sized.is_sized, sized.is_known)

    def _size(self, values: Mapping[str, Value]) -> Sized:
        backbone, is_sized, is_known = self._backbone(values)
        # Axes that are left out show the value that the backbone gives them.
        width, depth = _shape(backbone).size(backbone.knobs)
        labels = {"width": width, "depth": depth} | {
            name: backbone[knob]
            for name in self._networks
            if (knob := AXES[name].field_of("backbone")) is not None
        }
        left_out = {name: label for name, label in labels.items() if values[name].label is None}
        return Sized(backbone, is_sized, is_known, left_out)

    def _patch_size_px(self, task: Value) -> int:
        """The side of a training patch if the sweep leaves it to the task."""
        if id(task) not in self._patches:
            name, _ = CATALOGS["task"].resolve(task.value.name, task.value.knobs)
            self._patches[id(task)] = TASKS[name].facts["patch_size_px"]
        return self._patches[id(task)]

    def _backbone(self, values: Mapping[str, Value]) -> tuple[Choice, bool, bool]:
        """The backbone at the point's width and depth; whether it can have them, and is known."""
        choice: Choice = values["backbone"].value
        name, knobs = CATALOGS["backbone"].resolve(choice.name, choice.knobs)
        is_right = all(values[axis].is_sure for axis in ("backbone", "width", "depth"))
        for axis, value in values.items():
            if (knob := AXES[axis].field_of("backbone")) is not None and value.value is not None:
                try:
                    name, knobs = CATALOGS["backbone"].resolve(name, {**knobs, knob: value.value})
                except BadKnob as error:
                    if not self._doubts.cover(values["backbone"].location):
                        self._problem(value.location, str(error))
                    is_right = False
        whole = Choice(name=name, knobs=knobs)
        try:
            sized = _shape(whole).sized(knobs, values["width"].value, values["depth"].value)
        except BadSize as error:
            if is_right:
                self._problem(values[error.axis].location, str(error))
            # Planning goes on with what it can have, to find other problems.
            if error.axis == "depth" and values["width"].value is not None:
                with suppress(BadSize):
                    sized = _shape(whole).sized(knobs, values["width"].value, None)
                    return Choice(name=name, knobs=dict(sized)), False, is_right
            return whole, False, is_right
        return Choice(name=name, knobs=dict(sized)), is_right, is_right


def _meant(rule: Accepted, points: Sequence[Point]) -> tuple[Accepted, str]:
    """A match that matches nothing as it was probably meant, and a hint that says so."""
    meant, hint = dict(rule), ""
    for axis, wanted in rule.items():
        known = {str(point.labels[axis]) for point in points}
        for label in sorted(str(one) for one in wanted if isinstance(one, str)):
            if label not in known and (like := closest(label, sorted(known))):
                meant[axis] = meant[axis] | {like}
                hint += f": no {axis} {label!r}. Did you mean {like!r}?"
    return meant, hint


def _shape(backbone: Choice) -> Shape:
    shape = CATALOGS["backbone"][backbone.name].shape
    assert shape is not None  # read_sweep lets no backbone from outside in
    return shape
