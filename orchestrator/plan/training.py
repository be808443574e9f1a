"""The `training` part of a sweep file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from trainers.choice import LONGEST_LIST
from trainers.spec import Recipe

INITIAL_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "match": {"type": "object", "minProperties": 1},
                    "from": {"type": "string"},
                },
                "required": ["match", "from"],
                "additionalProperties": False,
            },
        },
        {"type": "null"},
    ]
}


def _initial(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and len(value) > LONGEST_LIST:
        raise ValueError(f"has {len(value)} lines; at most {LONGEST_LIST} fit")
    if isinstance(value, list | tuple) and value and all(isinstance(item, dict) for item in value):
        return tuple(value)
    raise ValueError(
        "must be a file, a trial's id (in quotes if it is digits only), "
        "or a list of {match: {axis: value}, from: ...}"
    )


class Training(Recipe):
    """How trials are trained: the same way, except for fields that are axes."""

    patch_size_px: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="side of a training patch on the LQ side; default: the task's",
    )
    initial: Annotated[Any, BeforeValidator(_initial), WithJsonSchema(INITIAL_SCHEMA)] = Field(
        None,
        description="weights to start from: a file, a trial's id, or a list of {match, from}; "
        "default: drawn from `seed`",
    )
    initial_strict: bool = Field(
        True,
        description="refuse `initial` weights that do not fit; "
        "false: tensors that do not fit start as drawn, and are listed",
    )
