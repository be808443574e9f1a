"""The lines of a catalogue, and how a name and its knobs are looked up in one. Pure: no torch."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

from trainers import own
from trainers.errors import UserError, did_you_mean
from trainers.shape import Shape

Scalar = bool | int | float | str
KnobValue = Scalar | tuple[int, ...]


class UnknownName(UserError, ValueError):
    """A name that is not in its catalogue; the message suggests what was probably meant."""

    def __init__(self, kind: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"unknown {kind} {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )


class BadKnob(UserError, ValueError):
    """A knob that the entry does not have, or a value outside its range. `knob` is its name."""

    def __init__(self, knob: str, message: str) -> None:
        self.knob = knob
        super().__init__(message)


@dataclass(frozen=True)
class Knob:
    """One hyper-parameter of an entry: its default, from which the type follows, and its range."""

    default: KnobValue
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    longest: int | None = None  # of a list
    choices: tuple[Scalar, ...] | None = None

    @property
    def kind(self) -> str:
        if isinstance(self.default, tuple):
            return "a list of whole numbers"
        return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[
            type(self.default)
        ]

    def check(self, name: str, value: object) -> KnobValue:
        """The value in the default's type. Raises BadKnob with what would be right."""
        # Types are compared with `is`, since isinstance takes True for an int.
        if isinstance(self.default, tuple):
            if (
                not isinstance(value, list | tuple)
                or not value
                or not all(type(v) is int for v in value)
            ):
                raise BadKnob(name, f"{name} must be {self.kind}, not {value!r}")
            if self.longest is not None and len(value) > self.longest:
                raise BadKnob(name, f"{name} has {len(value)} values; at most {self.longest} fit")
            numbers: tuple[int, ...] = tuple(value)
            for number in numbers:
                self._check_range(name, number)
            return numbers
        if type(self.default) is float and type(value) is int:  # 1 in a file for 1.0
            try:
                value = float(value)
            except OverflowError:
                raise BadKnob(name, f"{name} must be a number below 1e308") from None
        if type(value) is not type(self.default):
            raise BadKnob(name, f"{name} must be {self.kind}, not {value!r}")
        if self.choices is not None and value not in self.choices:
            raise BadKnob(
                name, f"{name} must be one of {', '.join(map(str, self.choices))}, not {value!r}"
            )
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._check_range(name, value)
        assert isinstance(value, bool | int | float | str)
        return value

    def _check_range(self, name: str, value: float) -> None:
        if value != value or value in (float("inf"), float("-inf")):
            raise BadKnob(name, f"{name} must be finite, not {value!r}")
        if self.above is not None and not value > self.above:
            raise BadKnob(name, f"{name} must be above {self.above:g}, not {value!r}")
        if self.at_least is not None and value < self.at_least:
            raise BadKnob(name, f"{name} must be at least {self.at_least:g}, not {value!r}")
        if self.at_most is not None and value > self.at_most:
            raise BadKnob(name, f"{name} must be at most {self.at_most:g}, not {value!r}")


@cache
def _imported(pure_side: str) -> Shape:
    module, _, attribute = pure_side.partition(":")
    shape: Shape = getattr(importlib.import_module(module), attribute)
    return shape


@dataclass(frozen=True)
class Entry:
    """One line of a table: a name, the class it names, the class's knobs, and facts about it.

    `target` is `module:Class`. `pure_side` is where a backbone's Shape is: `module:SHAPE`. With
    `open_knobs`, which classes from outside have, knobs are passed on unchecked.
    """

    name: str
    target: str
    knobs: Mapping[str, Knob]
    revision: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)
    open_knobs: bool = False
    pure_side: str | None = None

    @property
    def shape(self) -> Shape | None:
        """A backbone's pure side; None for a class from outside: only it knows its knobs."""
        if self.pure_side is None:
            return None
        return _imported(self.pure_side)

    @property
    def has_ends(self) -> bool:
        """Whether this backbone has norms after its patch embedding and before its head."""
        return self.shape is None or self.shape.has_ends

    def resolve(self, given: Mapping[str, object]) -> dict[str, KnobValue]:
        """All knobs of the entry: the given ones checked, the others at their defaults.

        Raises BadKnob.
        """
        values: dict[str, KnobValue] = {}
        for name, value in given.items():
            if name in self.knobs:
                values[name] = self.knobs[name].check(name, value)
            elif self.open_knobs and isinstance(value, bool | int | float | str | tuple):
                values[name] = value
            else:
                known = ", ".join(self.knobs) or "none"
                meant = did_you_mean(name, self.knobs)
                raise BadKnob(name, f"{self.name} has no knob {name!r}.{meant} Its knobs: {known}.")
        return {
            **{name: knob.default for name, knob in self.knobs.items() if name not in values},
            **values,
        }

    def load(self) -> Any:
        """Import the class; one from outside is looked for in the user's folders first."""
        module, _, attribute = self.target.partition(":")
        return getattr(
            own.load(module) if self.open_knobs else importlib.import_module(module), attribute
        )


def entry(
    name: str,
    target: str,
    *,
    revision: int = 1,
    facts: Mapping[str, Any] | None = None,
    shape: str | None = None,
    **knobs: Any,
) -> Entry:
    """A line of a table. A knob is given as its default, or as a Knob if it has a range."""
    return Entry(
        name,
        target,
        MappingProxyType({k: v if isinstance(v, Knob) else Knob(v) for k, v in knobs.items()}),
        revision,
        MappingProxyType(dict(facts or {})),
        pure_side=shape,
    )


@dataclass(frozen=True)
class Preset:
    """A name for an entry with some of its knobs set, e.g. `swinir-light`, `sr_x2`."""

    name: str
    of: str
    knobs: Mapping[str, KnobValue]


class Catalog:
    """An ordered table of entries and of presets over them.

    `entry_points` is the entry-point group by which installed packages add to it.
    """

    def __init__(self, kind: str, *lines: Entry | Preset, entry_points: str | None = None) -> None:
        self.kind = kind
        self._entry_points = entry_points
        self.entries = {line.name: line for line in lines if isinstance(line, Entry)}
        self.presets = {line.name: line for line in lines if isinstance(line, Preset)}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.entries, *self.presets)

    @property
    def registered(self) -> tuple[str, ...]:
        """The names of all entries: the table's in its order, then those of installed packages."""
        return (*self.entries, *sorted(self._published().keys() - self.entries.keys()))

    def __getitem__(self, name: str) -> Entry:
        """The entry of this name.

        `package.module:Class`, and a name that an installed package publishes under the entry-point
        group, give an entry with open knobs. Raises UnknownName.
        """
        if name in self.entries:
            return self.entries[name]
        if ":" in name and all(part.isidentifier() for part in name.replace(":", ".").split(".")):
            return Entry(name, name, MappingProxyType({}), open_knobs=True)
        published = self._published()
        if name in published:
            return Entry(name, published[name], MappingProxyType({}), open_knobs=True)
        raise UnknownName(self.kind, name, (*self.names, *published))

    def _published(self) -> dict[str, str]:
        """`package.module:Class` by name, as installed packages publish them; none is imported."""
        return {} if self._entry_points is None else _published(self._entry_points, tuple(sys.path))

    def resolve(self, name: str, given: Mapping[str, object]) -> tuple[str, dict[str, KnobValue]]:
        """The entry's name and all its knobs, for the name of an entry or of a preset.

        Raises UnknownName, BadKnob.
        """
        preset = self.presets.get(name)
        if preset is not None:
            return preset.of, self.entries[preset.of].resolve({**preset.knobs, **given})
        return name, self[name].resolve(given)


# Cached for each path, because it reads the metadata of every package on it.
@functools.cache
def _published(group: str, _path: tuple[str, ...]) -> dict[str, str]:
    return {point.name: point.value for point in importlib.metadata.entry_points(group=group)}


def preset(name: str, of: str, **knobs: KnobValue) -> Preset:
    return Preset(name, of, MappingProxyType(knobs))
