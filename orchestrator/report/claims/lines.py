"""One line of a file of claims, as far as every statistic has it, and the types of its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from orchestrator.plan.identity import why_missing
from orchestrator.plan.match import label_of
from trainers.catalog import BACKBONES, METRICS, NORMS, TASKS, BadKnob, Catalog, UnknownName
from trainers.choice import LONGEST_LIST, Choice, Part
from trainers.spec import SET_NAME

ID = r"^[a-z][a-z0-9_-]{0,59}$"
SCALAR = r"^[A-Za-z_][A-Za-z0-9_./:-]{0,149}$"
SAID = "said"  # the kind of a problem whose message is already in our words


def said(message: str, knob: str = "") -> PydanticCustomError:
    """A problem with a field, in our words; `knob` is the key below the field that is wrong."""
    return PydanticCustomError(SAID, "{message}", {"message": message, "knob": knob})


def _as_tuple(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str | dict) else value


def _in(catalog: Catalog) -> Callable[[Choice], Choice]:
    """Checks that a catalogue has an entry, with the knobs that are given; returns it as given."""

    def check(choice: Choice) -> Choice:
        try:
            catalog.resolve(choice.name, choice.knobs)
            why = why_missing(catalog[choice.name]) if ":" in choice.name else ""
        except UnknownName as error:
            raise said(str(error)) from error
        except BadKnob as error:
            raise said(str(error), error.knob) from error
        if why:
            raise said(why)
        return choice

    return check


def _named_in(catalog: Catalog) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in catalog.names:
            raise said(str(UnknownName(catalog.kind, name, catalog.names)))
        return name

    return check


_Many = (BeforeValidator(_as_tuple),)
Norm = Annotated[Choice, AfterValidator(_in(NORMS))]
Norms = Annotated[tuple[Norm, ...], Field(min_length=1, max_length=LONGEST_LIST), *_Many]
Tasks = Annotated[
    tuple[Annotated[Choice, AfterValidator(_in(TASKS))], ...],
    Field(max_length=LONGEST_LIST),
    *_Many,
]
Backbones = Annotated[
    tuple[Annotated[str, AfterValidator(_named_in(BACKBONES))], ...],
    Field(max_length=LONGEST_LIST),
    *_Many,
]
Sets = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=SET_NAME)], ...],
    Field(max_length=LONGEST_LIST),
    *_Many,
]
Metric = Annotated[str, AfterValidator(_named_in(METRICS))]
Scalar = Annotated[str, StringConstraints(pattern=SCALAR)]
Precision = Literal[
    "fp32",
    "bf16",
    "fp16",
    "fp16_literal",
    "int8",
    "int4",
    "int8 per channel",
    "int4 per channel",
]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]


class Claim(Part):
    """What every claim has. `tasks` and `backbones` confine it; each one named has to be there.

    A task or backbone without knobs stands for all of its kind: `sr`, `hat`; `sr_x2` is what the
    catalogue says.
    """

    id: str = Field(pattern=ID)
    sentence: str = Field(min_length=1, max_length=300)
    place: str = Field("", max_length=60)
    statistic: str
    tasks: Tasks = ()
    backbones: Backbones = ()

    @property
    def norms_named(self) -> tuple[Choice, ...]:
        """Every norm that the claim is about."""
        found: list[Choice] = []
        for name in ("norms", "candidate", "reference"):
            found += getattr(self, name, ())
        return tuple({label_of(norm): norm for norm in found}.values())


class OverNorms(Claim):
    """A claim about each of some norms."""

    norms: Norms


class OfTwo(Claim):
    """A claim about each candidate against each reference."""

    candidate: Norms
    reference: Norms

    @model_validator(mode="after")
    def _differ(self) -> OfTwo:
        both = {label_of(norm) for norm in self.candidate} & {
            label_of(norm) for norm in self.reference
        }
        if both:
            raise said(f"candidate and reference both name {', '.join(sorted(both))}")
        return self


class OfScores(OfTwo):
    """A claim about the scores of two norms."""

    metric: Metric = "psnr"
    sets: Sets = ()
    precision: Precision = "fp32"


class Threshold(NamedTuple):
    """A number, and the side of it on which the claim holds."""

    value: float
    is_above: bool


class Beyond(Claim):
    """A claim that a value is on one side of a threshold; one of `above` and `below` is given."""

    above: Number | None = None
    below: Number | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_threshold(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            given = [name for name in ("above", "below") if values.get(name) is not None]
            if len(given) != 1:
                raise said("give a threshold: either above: NUMBER or below: NUMBER")
        return values

    @property
    def threshold(self) -> Threshold:
        if self.above is not None:
            return Threshold(self.above, True)
        assert self.below is not None
        return Threshold(self.below, False)
