"""A sweep file, read as far as possible: its problems, and a sweep in which they are mended.

Planning goes on with that sweep, to report what is wrong with names, sizes, data and the grid
together with what is wrong with the schema. A value that is mended by a guess (`iln` by `i_ln`, a
scalar by a list of one) counts as the user's. Any other is replaced by a value that only allows to
go on, and its place is a doubt: nothing is reported that follows from it.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.plan.axes import AXES, CATALOGS, NOT_AXES
from orchestrator.plan.source import Location, Problem, Source, read_source
from orchestrator.plan.sweep import (
    LONGEST_NAME,
    SWEEP_NAME,
    Sweep,
    fields_at,
    is_plain,
    location_of,
    shape_problems,
    unknown_choices,
)
from trainers.errors import closest

MOST_ROUNDS = 20  # each finds what the last one's repair has uncovered; files need two or three
FILLERS = {"backbone": "swinir-tiny", "norm": "layer_norm", "task": "denoise_25"}
ITEM_FILLERS: dict[Location, Any] = {  # of lists whose items keep their places
    ("exclude",): {"norm": []},
    ("include",): {"norm": []},
    ("resources", "overrides"): {"match": {"norm": []}},
    ("data", "evaluate"): "embedded-test",
    ("observe", "probes"): "features",
}


@dataclass(frozen=True)
class Doubts:
    """The places of a file whose values are not the user's.

    At those in `said` the user's value was kept, but YAML may not have read it as it was meant. At
    those in `guessed` is what the user probably meant.
    """

    places: frozenset[Location] = frozenset()
    said: frozenset[Location] = frozenset()
    guessed: frozenset[Location] = frozenset()

    def cover(self, location: Location) -> bool:
        """Whether a problem at this place would only follow from one that is reported."""
        return any(
            location[:length] in places
            for length in range(len(location) + 1)
            for places in (self.places, self.said)
        )

    def touch(self, *locations: Location) -> bool:
        """Whether the value at one of these places, or a part of it, is not the user's."""
        return any(
            location in self._beginnings
            or any(location[:length] in self.places for length in range(len(location)))
            for location in locations
        )

    @cached_property
    def _beginnings(self) -> frozenset[Location]:
        """The places, and every place that one of them is part of."""
        return frozenset(
            place[:length] for place in self.places for length in range(len(place) + 1)
        )

    def guess(self, *locations: Location) -> bool:
        """Whether what is at one of these places is only what the user probably meant."""
        return not self.guessed.isdisjoint(locations)

    @property
    def axes(self) -> frozenset[str]:
        """The axes of which a value is missing."""
        return frozenset(name for name in AXES if self.touch(("axes", name)))


@dataclass(frozen=True)
class Draft:
    """A sweep file: `source` and `sweep` with `problems` mended, where there are any."""

    source: Source
    sweep: Sweep
    name: str
    problems: tuple[Problem, ...] = ()
    doubts: Doubts = Doubts()


def read_sweep(path: Path) -> tuple[Source, Sweep, str]:
    """Read a sweep file: its source, its content and the sweep's name.

    Raises UserError with all its problems with the schema and its names.
    """
    found = read_draft(path)
    if found.problems:
        raise found.source.error(found.problems)
    return found.source, found.sweep, found.name


def read_draft(path: Path) -> Draft:
    """Read a sweep file as far as possible. Raises UserError where nothing can be made of it."""
    source, problems = read_source(path)
    if not isinstance(source.value, dict):
        message = "a sweep file is a mapping that begins with `axes:`"
        raise source.error(problems or [Problem((), message)])
    repair = _Repair(source, problems)
    for _ in range(MOST_ROUNDS):
        sweep = repair.next_round()
        if sweep is not None:
            break
    else:
        raise source.error(repair.problems)
    repair.problems += _given_twice(repair.source)
    name = sweep.sweep or path.stem.replace("_", "-").lower()
    if not re.fullmatch(SWEEP_NAME, name) or len(name) > LONGEST_NAME:
        message = (
            f"the file's name cannot be a sweep's ({name!r}): add `sweep: a-name` (a-z, 0-9, -)"
        )
        repair.problems += [] if repair.doubts.touch(("sweep",)) else [Problem((), message)]
    return Draft(repair.source, sweep, name, tuple(repair.problems), repair.doubts)


def _given_twice(source: Source) -> list[Problem]:
    """Problems: fields of `training` that are axes too."""
    axes, training = source.value["axes"], source.value.get("training") or {}
    message = "is an axis of this sweep as well: give it in `axes` or in `training`, not in both"
    both = (name for name in training if axes.get(name) is not None)
    return [
        Problem(("training", name), message, source.position(("training", name), of_key=True))
        for name in both
    ]


@dataclass
class _Repair:
    """A file's value on its way to one that the schema accepts."""

    source: Source
    problems: list[Problem]
    places: set[Location] = field(default_factory=set)
    guessed: set[Location] = field(default_factory=set)
    faulty: set[Location] = field(default_factory=set)  # items of lists, in this round
    good: dict[Location, Location | None] = field(default_factory=dict)  # of lists, in this round

    def __post_init__(self) -> None:
        scalars = (p.location for p in self.problems if p.location and self._is_scalar(p.location))
        self.said = frozenset(scalars)

    @property
    def doubts(self) -> Doubts:
        return Doubts(frozenset(self.places), self.said, frozenset(self.guessed))

    def next_round(self) -> Sweep | None:
        """The sweep, if there is nothing left to mend; else the problems found are mended."""
        try:
            sweep = Sweep.model_validate(self.source.value)
        except ValidationError as error:
            errors = error.errors()
            self._add(shape_problems(errors, self.source, fields_at))
            self._own()
            self._mend(errors)
            return None
        if found := unknown_choices(sweep):
            self._add(found)
            self._own()
            self._begin_round(problem.location for problem in found)
            for problem in found:
                self._mend_choice(problem.location)
            return None
        return sweep

    def _add(self, found: Iterable[Problem]) -> None:
        doubts = self.doubts
        self.problems += [problem for problem in found if not doubts.cover(problem.location)]

    def _own(self) -> None:
        """Work on a copy, since the value as it was read belongs to the source."""
        if not self.places and not self.faulty:
            self.source = dataclasses.replace(
                self.source,
                value=copy.deepcopy(self.source.value),
                positions=dict(self.source.positions),
                keys=dict(self.source.keys),
            )

    def _begin_round(self, wrong: Iterable[Location]) -> None:
        self.faulty, self.good = {_item(location) for location in wrong}, {}

    def _mend(self, errors: Sequence[ErrorDetails]) -> None:
        # Names first: a field that is missing may be there under another name.
        errors = sorted(errors, key=lambda error: error["type"] != "extra_forbidden")
        self._begin_round(location_of(error) for error in errors)
        for error in errors:
            location, kind, given = location_of(error), error["type"], error["input"]
            if kind == "extra_forbidden":
                self._rename(location)
            elif kind == "missing":
                self._fill(location)
            elif kind in ("tuple_type", "list_type") and is_plain(given) and self._has(location):
                self._put(location, [given])
            elif kind != "too_short" or not given:
                self._take_out(location)

    def _mend_choice(self, location: Location) -> None:
        """Mend a name that is in no catalogue, or take out a knob that does not fit."""
        if not self._has(location):
            return  # its list has been replaced as a whole
        if location[0] != "axes" or len(location) > 3:
            self._take_out(location)
            return
        catalog, item = CATALOGS[str(location[1])], self._at(location)
        name = item["name"] if isinstance(item, dict) else item
        guess = closest(name, (*catalog.names, *catalog.registered)) if ":" not in name else None
        if guess is None:
            self._take_out(location)
        else:
            self.guessed.add(location)
            self._put(location, {**item, "name": guess} if isinstance(item, dict) else guess)

    def _rename(self, location: Location) -> None:
        """Call a field by the name that was probably meant, or take it out."""
        place, wrong = location[:-1], str(location[-1])
        values = self._at(place)
        known = tuple(AXES) if place == ("axes",) else fields_at(place)
        guess = None if place == ("axes",) and wrong in NOT_AXES else closest(wrong, known)
        value = values.pop(wrong, None)
        if guess is None or guess in values:
            return
        values[guess] = value
        positions, keys = dict(self.source.positions), dict(self.source.keys)
        for there in (positions, keys):
            for inner in [one for one in there if one[: len(location)] == location]:
                there[(*place, guess, *inner[len(location) :])] = there[inner]
        self.source = dataclasses.replace(self.source, positions=positions, keys=keys)

    def _fill(self, location: Location) -> None:
        """Fill a field that is missing; where nothing can be put there, take out what lacks it."""
        place, name = location[:-1], location[-1]
        if self._has(location):
            return  # it has been mended under another name
        if location == ("axes",) or (place == ("axes",) and name in FILLERS):
            self.places.add(location)
            self._put(location, {} if location == ("axes",) else [FILLERS[str(name)]])
        else:
            self._take_out(place)

    def _take_out(self, location: Location) -> None:
        while location and not self._has(location):
            location = location[:-1]
        number = next((i for i, part in enumerate(location) if isinstance(part, int)), None)
        if number is None:
            self._delete(location)
        else:
            self._take_out_of_list(location[:number], number, location)

    def _take_out_of_list(self, place: Location, number: int, location: Location) -> None:
        """Replace an item, or delete a knob of it, so that the others keep their places."""
        at, inner = location[: number + 1], location[number + 1 :]
        item = self._at(at)
        if inner and isinstance(item, dict) and inner[0] != "name":
            del item[inner[0]]
            self.places.add((*at, inner[0]))
            return
        self.places.add(at)
        if place in ITEM_FILLERS:
            self._put(at, copy.deepcopy(ITEM_FILLERS[place]))
        elif (good := self._good_item(place)) is not None and place[0] in ("axes", "gate"):
            self._put(at, copy.deepcopy(self._at(good)))
        else:
            self._delete(place)

    def _good_item(self, place: Location) -> Location | None:
        """The first item of a list with which nothing is wrong; the same all through a round."""
        if place not in self.good:
            items = ((*place, i) for i in range(len(self._at(place))))
            sound = (one for one in items if one not in self.places and one not in self.faulty)
            self.good[place] = next(sound, None)
        return self.good[place]

    def _delete(self, location: Location) -> None:
        self.places.add(location)
        if location == ("axes",):
            self._put(location, {})
        elif location[:1] == ("axes",) and location[-1] in FILLERS:
            self._put(location, [FILLERS[str(location[-1])]])
        elif location:
            self._at(location[:-1]).pop(location[-1], None)

    def _at(self, location: Location) -> Any:
        """The value at a place that there is."""
        value = self.source.value
        for part in location:
            value = value[part]
        return value

    def _has(self, location: Location) -> bool:
        try:
            self._at(location)
        except (KeyError, IndexError, TypeError):
            return False
        return True

    def _put(self, location: Location, value: Any) -> None:
        self._at(location[:-1])[location[-1]] = value

    def _is_scalar(self, location: Location) -> bool:
        return self._has(location) and not isinstance(self._at(location), dict | list)


def _item(location: Location) -> Location:
    """The item of a list that a place is in; the place itself, if it is in none."""
    number = next((i for i, part in enumerate(location) if isinstance(part, int)), len(location))
    return location[: number + 1]
