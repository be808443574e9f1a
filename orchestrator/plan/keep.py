"""The `keep:` section of a sweep file: which trials keep their weights once they have ended."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from trainers.choice import Part
from trainers.errors import closest

LAST, BEST, NONE = "last", "best", "none"
MOST_KEPT = 100_000  # as many trials as a sweep can have
WANTED = "must be last, best, none, or how many of the best trials keep theirs (at least 1)"
MEANT: dict[Any, str] = {
    0: "`none` keeps no checkpoint of a trial that has ended: ",
    -1: "`last` keeps every trial's: ",
    "all": "`last` keeps every trial's: ",
    None: "`none`, as a word, keeps no checkpoint of a trial that has ended: ",
}


def _known(value: Any) -> Any:
    is_number = type(value) is int  # `yes` is a bool, which is an int as well
    if value in (LAST, BEST, NONE) or (is_number and 1 <= value <= MOST_KEPT):
        return value
    if value is not None and not is_number and not isinstance(value, str):
        raise ValueError(WANTED)
    meant = closest(str(value), (LAST, BEST, NONE))
    raise ValueError(MEANT.get(value, f"did you mean {meant}? It " if meant else "") + WANTED)


class Keep(Part):
    """Which ended trials keep their last checkpoint; left out, all do.

    It does not enter a trial's id, since it does not change what the weights are.
    """

    checkpoints: Annotated[
        Literal["last", "best", "none"] | int,
        BeforeValidator(_known),
        WithJsonSchema(
            {
                "anyOf": [
                    {"enum": [LAST, BEST, NONE]},
                    {"type": "integer", "minimum": 1, "maximum": MOST_KEPT},
                ]
            }
        ),
    ] = Field(
        description="`last`: every ended trial keeps its last checkpoint. `best`: of the trials of "
        "one task, backbone, size and norm, the best one does. A number: so many of the best do. "
        "`none`: no trial that is done or has diverged keeps one. Scores and journals always stay"
    )
    metric: str = Field(
        "psnr",
        max_length=60,
        description="what `best` or a number goes by: the final value on the task's first "
        "evaluation set",
    )
    across_norms: bool = Field(
        False, description="whether the best are chosen among all norms, not for each norm"
    )

    @property
    def best(self) -> int | None:
        """How many of the best trials of a cell keep theirs; None if all do."""
        if self.checkpoints == LAST:
            return None
        number = {BEST: 1, NONE: 0}.get(str(self.checkpoints))
        return int(self.checkpoints) if number is None else number

    def __str__(self) -> str:
        return f"keep: {self.checkpoints}"
