"""The schema of `sweeps/*.yaml`, and the problems of a file with it, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import ErrorDetails

from orchestrator.plan.axes import ALL, AXES, CATALOGS, LINES, NOT_AXES, OPEN_AXIS, Axes
from orchestrator.plan.data import DATA_MODEL, Data
from orchestrator.plan.gate import Gate
from orchestrator.plan.keep import Keep
from orchestrator.plan.limits import shown
from orchestrator.plan.own_knobs import knobs_of, no_such_knob
from orchestrator.plan.source import Location, Problem, Source
from orchestrator.plan.stop import Stop
from orchestrator.plan.training import Training
from trainers.catalog import PROBES, BadKnob, Catalog, Ends, UnknownName
from trainers.choice import LONGEST_LIST, Choice, Part
from trainers.errors import closest, did_you_mean
from trainers.spec import Cadences, Gang, Strategy

SWEEP_NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
SHORT = 60  # characters of a value that a message repeats to say what to write
MOST_FIELDS = 32  # in a mapping that no schema describes; none needs as many
LONGEST_PATH = 200
CLAIM_FILE = (
    r"^([A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*\.ya?ml$"  # submit can ship it
)
LONGEST_NAME = 38  # it becomes a RayJob's, which may have 47 characters, 7 of them ours


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


AsTuple = BeforeValidator(_as_tuple)
Match = Annotated[dict[str, Any], Field(min_length=1, max_length=MOST_FIELDS)]
Rules = Annotated[tuple[Match, ...], Field(max_length=LONGEST_LIST)]


class ModelOverrides(Part):
    """What is around the block norms, for all trials; fields left out take each norm's default."""

    embed_norm: Ends | None = Field(
        None,
        description="norm after the patch embedding: `same` as in the blocks, `affine` or "
        "`identity`; default: the norm's own",
    )
    end_norm: Ends | None = Field(
        None,
        description="norm before the head: `same`, `affine` or `identity`; default: the norm's own",
    )
    stdnorm: bool | None = Field(None, description="standardise the input; default: the norm's own")


class Resources(Gang):
    """What a trial runs on. `overrides` change it for the trials that they match; the last wins."""

    placement: Strategy = Field("pack", description="how Ray places the workers of a gang on nodes")
    gpu_memory_gb: float | None = Field(
        None,
        gt=0,
        le=10_000,
        description="memory of a GPU, in 10^9 bytes; default: NVIDIA's figure for its kind, if Ray "
        "knows the kind",
    )
    overrides: Annotated[Rules, AsTuple] = Field(
        (), description="each `{match: {axis: value}, ...}` with fields of `resources`"
    )


class Sweep(Part):
    """A sweep file."""

    sweep: str | None = Field(
        None,
        max_length=LONGEST_NAME,
        pattern=f"^{SWEEP_NAME}$",
        description="the sweep's name; default: the file's",
    )
    axes: Axes = Field(description="the grid")
    exclude: Annotated[Rules, AsTuple] = Field(
        (), description="matches; the points that one matches are taken out of the grid"
    )
    include: Annotated[Rules, AsTuple] = Field(
        (), description="points added to the grid; an axis left out takes all its values"
    )
    model: ModelOverrides = Field(ModelOverrides(), description="what is around the block norms")
    data: Data = Field(DATA_MODEL(), description="data sets, by name, for all tasks or by task")
    training: Training = Field(Training(), description="how trials are trained")
    observe: Cadences = Field(Cadences(), description="what is recorded, and how often")
    resources: Resources = Field(Resources(), description="what a trial runs on")
    claims: str | None = Field(
        None,
        max_length=LONGEST_PATH,
        pattern=CLAIM_FILE,
        description="a file of your own claims, in this file's folder or below "
        "([claims.md](claims.md)); default: only the paper's claims are judged",
    )
    gate: Gate | None = Field(
        None,
        description="what `normsweep regress` judges; default: nothing",
    )
    stop: Stop | None = Field(
        None, description="which trials end early, by Tune's schedulers; default: none"
    )
    keep: Keep | None = Field(
        None, description="which ended trials keep their last checkpoint; default: all"
    )


def unknown_choices(sweep: Sweep) -> list[Problem]:
    """Problems: names that are in no catalogue, and knobs that do not fit."""
    problems = []
    for axis, catalog in CATALOGS.items():
        for i, choice in enumerate(getattr(sweep.axes, axis)):
            if axis == OPEN_AXIS and choice.name == ALL:
                message = "`all` takes every norm as it is: give knobs to one norm, by its name"
                problems += [Problem(("axes", axis, i, knob), message) for knob in choice.knobs]
                continue
            if ":" in choice.name and axis != OPEN_AXIS:
                message = (
                    f"{choice.name!r}: only a norm may be your own class. "
                    f"Known: {', '.join(catalog.names)}."
                )
                problems.append(Problem(("axes", axis, i), message))
                continue
            problems += _unfitting(catalog, choice, ("axes", axis, i))
    for i, name in enumerate(sweep.observe.probes):
        try:
            PROBES[name]
        except UnknownName as error:
            problems.append(Problem(("observe", "probes", i), str(error)))
    return problems


def _unfitting(catalog: Catalog, choice: Choice, location: Location) -> Iterator[Problem]:
    """The problem with a choice's name, or with each of its knobs."""
    try:
        catalog.resolve(choice.name, {})
    except UnknownName as error:
        yield Problem(location, str(error))
        return
    entry = None if choice.name in catalog.presets else catalog[choice.name]
    own = knobs_of(entry) if entry is not None and entry.open_knobs and choice.knobs else None
    for knob, value in choice.knobs.items():
        if own is not None and knob not in own:
            yield Problem((*location, knob), no_such_knob(choice.name, knob, own))
        try:
            catalog.resolve(choice.name, {knob: value})
        except BadKnob as error:
            yield Problem((*location, knob), str(error))


def shape_problems(
    errors: Sequence[ErrorDetails],
    source: Source,
    fields_at: Callable[[Location], Sequence[str]],
) -> list[Problem]:
    """What pydantic says of a file, in our words. `fields_at` gives the fields of a mapping."""
    problems = []
    misspelt = set(_meant(errors, fields_at))
    for error in errors:
        location = location_of(error)
        kind, given, context = error["type"], error["input"], error.get("ctx", {})
        if (kind == "too_short" and given) or (kind == "missing" and location in misspelt):
            continue  # its values are wrong, or the name that stands in its place: both reported
        if kind == "extra_forbidden":
            name = str(location[-1])
            is_axis = location[:-1] == ("axes",)
            message = (
                unknown_axis(name) if is_axis else unknown("field", name, fields_at(location[:-1]))
            )
            problems.append(Problem(location, message, source.position(location, of_key=True)))
            continue
        if kind == "missing":
            message = "is missing"
        elif kind in ("tuple_type", "list_type"):
            message = f"must be a list, not {shown(given)}"
            message += f": write [{given}]" if is_plain(given) and len(str(given)) < SHORT else ""
        elif kind in ("too_short",):
            message = "is empty: at least one value is needed"
        elif kind in ("too_long",):
            message = f"has {len(given)} values; at most {context['max_length']} fit"
        elif kind in ("model_type", "dict_type", "model_attributes_type"):
            is_choice = context.get("class_name") == Choice.__name__
            wanted = "a name or {name, knob: value}" if is_choice else "a mapping"
            message = f"must be {wanted}, not {shown(given)}"
        elif kind == "literal_error":
            message = f"must be {context['expected']}, not {shown(given)}"
        elif kind == "string_pattern_mismatch":
            message = f"{shown(given)} is not a name of the form {context['pattern']}"
        elif kind == "string_too_long":
            message = (
                f"{shown(given)} has {len(given)} characters; at most {context['max_length']} fit"
            )
        else:
            reason = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
            message = f"{reason}, not {shown(given)}"
        problems.append(Problem(location, message))
    return problems


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """The message about a name that is not among `known`."""
    return f"unknown {kind} {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."


def unknown_axis(name: str) -> str:
    """The message about a name that is not an axis."""
    if why := NOT_AXES.get(name):
        return f"{name} {why}"
    known = ", ".join(axis.name for axis in LINES)
    return (
        f"unknown axis {name!r}.{did_you_mean(name, AXES)} "
        f"Known: {known}, and any field of `training`."
    )


def is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def location_of(error: ErrorDetails) -> Location:
    """The place of an error. In the file, knobs are written beside the name, not below `knobs`."""
    return tuple(part for part in error["loc"] if part != "knobs")


def _meant(
    errors: Sequence[ErrorDetails], fields_at: Callable[[Location], Sequence[str]]
) -> Iterator[Location]:
    """The places of the fields that were probably meant by unknown ones."""
    for error in errors:
        if error["type"] == "extra_forbidden":
            *place, wrong = location_of(error)
            known = tuple(AXES) if place == ["axes"] else fields_at(tuple(place))
            if meant := closest(str(wrong), known):
                yield (*place, meant)


def fields_at(location: Location) -> tuple[str, ...]:
    """The fields that the model at `location` has."""
    model: Any = Sweep
    if location[:1] == ("data",):  # whose type has a field for each task
        model, location = DATA_MODEL, location[1:]
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            models = (annotation, *get_args(annotation))  # `Gate | None` has two
            model = next((one for one in models if _is_model(one)), model)
    return tuple(model.model_fields)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
