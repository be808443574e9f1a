"""The axes that a sweep may have: one for each line of `LINES` and for each field of `training`.

An axis' role says how trials that differ in it are related. The report averages over a `repeat`,
keeps trials that differ in any other axis apart, and relates divergence to a `size`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, get_origin

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    TypeAdapter,
    create_model,
)

from orchestrator.plan.match import as_choice, label_of
from orchestrator.plan.training import Training
from trainers.catalog import BACKBONES, DEEPEST, NORMS, TASKS, WIDEST, Catalog
from trainers.choice import LONGEST_LIST, Choice, Part

Role = Literal["model", "task", "recipe", "size", "repeat"]
NAME_ORDER: tuple[Role, ...] = ("task", "size", "recipe", "model", "repeat")
LARGEST_GRID = 100_000  # points; planning all of them takes seconds (benchmarks/large_plan.py)
MOST_NETWORKS = 10_000  # of different size or norm, each of which is checked and priced
LONGEST_AXIS = 4_000  # values of an axis of numbers
COMPARED = "norm"  # what sweeps compare: the rows of a table, the colours of a figure
OPEN_AXIS = "norm"  # the one axis that takes `package.module:Class`, and `all`
ALL = "all"  # every norm of the catalogue, and every one that an installed package publishes
CHOICES = "names or {name, knob: value}"
NOT_AXES = {
    "initial": (
        "cannot be an axis: `training.initial` gives weights to start from, "
        "by `match` where trials differ in them"
    ),
    "initial_strict": "cannot be an axis: it belongs to `training.initial`",
}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _norms_as_tuple(value: Any) -> Any:
    return (ALL,) if value == ALL else _as_tuple(value)


@dataclass(frozen=True)
class Axis:
    """One line: an axis' name and meaning, the values that it takes, and where a value goes.

    `check` is a catalogue, or the type of one value. `place` is `backbone`, `norm` or `task` for an
    entry of a catalogue, `width` or `depth` for a size that each backbone turns into its knobs,
    and otherwise the name of one field: `backbone.window_size`, `training.lr`. `left_out` are the
    values of a sweep that does not name the axis; None leaves them to the backbone or to
    `training`. Unless `is_always`, such a sweep does not have the axis at all.
    """

    name: str
    role: Role
    check: Any
    place: str
    title: str = ""
    letter: str = ""  # before a value where space is short, in place of the name
    left_out: tuple[Any, ...] | None = None
    is_always: bool = False
    meaning: str = CHOICES

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by name: another process has the same line."""
        return axis_of, (self.name,)

    @property
    def catalog(self) -> Catalog | None:
        return self.check if isinstance(self.check, Catalog) else None

    def field_of(self, part: Literal["backbone", "training"]) -> str | None:
        """The field of this part of the spec that a value goes to; None if it goes elsewhere."""
        where, _, field = self.place.partition(".")
        return field or None if where == part else None

    @property
    def most(self) -> int:
        """The largest number of values that the axis may have."""
        return LONGEST_AXIS if self.catalog is None else LONGEST_LIST

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.check, config=ConfigDict(strict=True, allow_inf_nan=False))

    def checked(self, value: Any) -> Any:
        """A value as trials take it. Raises ValueError (or pydantic's) saying what is allowed."""
        if self.catalog is None:
            return self._adapter.validate_python(value)
        choice = Choice.model_validate(value)
        self.catalog.resolve(choice.name, choice.knobs)
        return choice

    def each(self, wanted: Any) -> list[Any]:
        """The values that a match or an `include` gives: one, or a list of them."""
        if not isinstance(wanted, list):
            return self.spread(wanted)
        # Where a value is a list itself (`betas`), only a list of lists is several of them.
        takes_lists = get_origin(getattr(self.check, "__origin__", None)) is tuple
        is_one = takes_lists and not any(isinstance(item, list) for item in wanted)
        return [wanted] if is_one else [one for item in wanted for one in self.spread(item)]

    def spread(self, value: Any) -> list[Any]:
        """The values that one in the file stands for: `all` for every norm, without knobs."""
        if self.name == OPEN_AXIS and value in (ALL, Choice(name=ALL)) and self.catalog is not None:
            return [Choice(name=name) for name in self.catalog.registered]
        return [value]

    def label_of(self, value: Any) -> Any:
        """A value as people read and match it: a name, a number, `[0.9,0.99]`, `none`."""
        if self.role != "recipe":
            return label_of(value)
        if isinstance(value, list | tuple):
            return f"[{','.join(str(item).removesuffix('.0') for item in value)}]"
        return str(value).lower() if value is None or isinstance(value, bool) else value

    def accepted(self, wanted: Any) -> frozenset[Any]:
        """The labels that a match with `wanted` for this axis accepts."""
        labels = (self.label_of(as_choice(item)) for item in self.each(wanted))
        # A list or mapping that is not a valid value equals no label, and cannot be hashed.
        return frozenset(label for label in labels if not isinstance(label, list | dict))

    def brief(self, label: Any) -> str:
        """The shortest clear form of a label: `i_ln`, `w24`, `lr0.0001`, `precision=bf16`."""
        if self.catalog is not None:
            return str(label)
        between = "=" if str(label)[:1].isalpha() else ""
        return f"{self.letter or self.name + between}{label}"

    def named(self, label: Any) -> str:
        """A label as headings show it: `i_ln`, `lr 0.0001`."""
        return str(label) if self.catalog is not None else f"{self.name} {label}"


def _size(name: str, most: int, title: str, meaning: str) -> Axis:
    """A size of the network: an axis of every sweep, `w` or `d` for short."""
    check: Any = Annotated[int, Field(ge=1, le=most)]
    letter = name[0]
    return Axis(name, "size", check, name, title, letter, is_always=True, meaning=meaning)


LINES = (
    Axis("backbone", "model", BACKBONES, "backbone", is_always=True),
    Axis(
        "norm",
        "model",
        NORMS,
        "norm",
        is_always=True,
        meaning=f"{CHOICES}; `all` for every norm below and every one that an installed package "
        "publishes",
    ),
    Axis("task", "task", TASKS, "task", is_always=True),
    _size("width", WIDEST, "width (embed_dim)", "embed_dim"),
    _size("depth", DEEPEST, "depth", "as the backbone counts it: see below, under Names"),
    Axis(
        "seed",
        "repeat",
        Annotated[int, Field(ge=0, lt=2**31)],
        "training.seed",
        letter="s",
        left_out=(0,),
        is_always=True,
        meaning="decides the initial weights and the order of the data",
    ),
)


def _recipe() -> Iterator[Axis]:
    """An axis for every field of `training`, with the bounds that it has there."""
    for name, field in Training.model_fields.items():
        if name not in NOT_AXES:
            check: Any = Annotated[(field.annotation, *field.metadata, BeforeValidator(_as_tuple))]
            yield Axis(name, "recipe", check, f"training.{name}", meaning=field.description or "")


AXES: Mapping[str, Axis] = {axis.name: axis for axis in (*LINES, *_recipe())}
CATALOGS: Mapping[str, Catalog] = {
    axis.name: axis.catalog for axis in LINES if axis.catalog is not None
}


# Not of a sweep file: it tells the trials of several sweeps apart (orchestrator.report.several).
SWEEP = Axis("sweep", "recipe", str, "sweep")


def axis_of(name: str) -> Axis:
    """The axis of this name. Raises KeyError."""
    return SWEEP if name == SWEEP.name else AXES[name]


def axes_named(names: Iterable[str]) -> tuple[Axis, ...]:
    """The axes of a sweep that names these, including those that every sweep has."""
    named = set(names)
    every = (*AXES.values(), SWEEP)
    return tuple(axis for axis in every if axis.is_always or axis.name in named)


def trial_name(labels: Mapping[str, Any], only: Collection[str] | None = None) -> str:
    """A trial's name, such as `i_ln sr_x2 w24 d2 swinir-tiny s0`; with `only`, of these axes.

    What differs most between trials comes first, for narrow columns.
    """
    axes = [axis for axis in axes_named(labels) if only is None or axis.name in only]
    ordered = sorted(axes, key=lambda axis: (axis.name != COMPARED, NAME_ORDER.index(axis.role)))
    return " ".join(axis.brief(labels[axis.name]) for axis in ordered)


def _values(axis: Axis) -> tuple[Any, Any]:
    """The type and default of the axis' field in the file's `axes`."""
    value: Any = axis.check if axis.catalog is None else Choice
    values: Any = Annotated[tuple[value, ...], Field(min_length=1, max_length=axis.most)]
    if axis.catalog is not None:
        default: Any = Field(description=axis.meaning)
    elif axis.left_out is not None:
        default = Field(axis.left_out, description=axis.meaning)
    else:
        values, default = values | None, Field(None, description=axis.meaning)
    listed = _norms_as_tuple if axis.name == OPEN_AXIS else _as_tuple
    return Annotated[values, BeforeValidator(listed)], default


AXES_MODEL: type[Part] = create_model(  # type: ignore[call-overload]
    "Axes",
    __base__=Part,
    __doc__="The grid. An axis that is left out has one value: the preset's width or depth, "
    "seed 0, or what `training` says.",
    **{axis.name: _values(axis) for axis in AXES.values()},
)
Axes = Annotated[Part, GetPydanticSchema(lambda _, handler: handler.generate_schema(AXES_MODEL))]
