"""The parts that specifications are made of: frozen, strict models, and choices from a catalogue.

Pure: no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    model_serializer,
    model_validator,
)

from trainers.entries import Catalog, KnobValue

# Far beyond what is useful, and within what a machine can hold: a larger number is a slip.
MOST_KNOBS = 32
LONGEST_LIST = 100
LONGEST_CLASS = 200  # characters of `package.module:Class`


class Part(BaseModel):
    """A frozen part of a specification; a field it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class ListedPart(Part):
    """A part with fields that are tuples, which JSON and YAML write as lists."""

    @model_validator(mode="before")
    @classmethod
    def _tuples_from_json(cls, value: Any) -> Any:
        if isinstance(value, dict):
            value = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return value


def _knob_value(value: Any) -> KnobValue:
    # `type` is compared because isinstance takes True for an int.
    if isinstance(value, tuple) and all(type(item) is int for item in value):
        if len(value) > LONGEST_LIST:
            raise ValueError(f"has {len(value)} values; at most {LONGEST_LIST} fit")
        return value
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError("must be true or false, a number, a text, or a list of whole numbers")


class Choice(BaseModel):
    """An entry of a catalogue with all its knobs.

    In JSON the knobs are beside the name: `{"name": "i_ln", "eps": 1e-4}`.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1, max_length=LONGEST_CLASS)
    knobs: dict[str, Annotated[KnobValue, PlainValidator(_knob_value)]] = Field(
        default_factory=dict, max_length=MOST_KNOBS
    )

    @model_validator(mode="wrap")
    @classmethod
    def _from_flat(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, str):
            value = {"name": value, "knobs": {}}
        if isinstance(value, dict) and "knobs" not in value:
            value = {
                "name": value.get("name"),
                "knobs": {
                    k: tuple(v) if isinstance(v, list) else v
                    for k, v in value.items()
                    if k != "name"
                },
            }
        return handler(value)

    @model_serializer
    def _to_flat(self) -> dict[str, Any]:
        return {"name": self.name, **self.knobs}

    def __getitem__(self, knob: str) -> Any:
        return self.knobs[knob]


def resolved(catalog: Catalog) -> AfterValidator:
    """A validator that fills a Choice up with the defaults of its knobs, after checking them."""

    def resolve(choice: Choice) -> Choice:
        name, knobs = catalog.resolve(choice.name, choice.knobs)
        return Choice(name=name, knobs=knobs)

    return AfterValidator(resolve)
