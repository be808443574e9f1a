"""The `stop:` section of a sweep file: which trials end early, judged by which metric."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from trainers.choice import Part
from trainers.spec import MOST_STEPS

LONGEST_METRIC = 200
REFUSED = {
    "hyperband": "Tune's HyperBand pauses each trial at a rung until the slowest of its bracket is "
    "there, and every pause would cost an attempt. `asha` with `brackets` has the same rungs and "
    "waits for nobody: must be asha or median",
    "pbt": "population based training copies weights and changes lr while a trial trains, so that "
    "no trial is what its id says (docs/decisions/0026): must be asha or median",
}
SCHEDULERS = ("asha", "median")


def _known_scheduler(value: Any) -> Any:
    if isinstance(value, str) and value in REFUSED:
        raise ValueError(REFUSED[value])
    return value


class Stop(Part):
    """Early stopping of trials that fall behind others of their group; left out, none is stopped.

    It is no part of a trial's id: it does not change what the weights at a step are.
    """

    scheduler: Annotated[
        Literal["asha", "median"],
        BeforeValidator(_known_scheduler),
        WithJsonSchema({"enum": list(SCHEDULERS)}),
    ] = Field(
        description="`asha`: at each rung, the best 1 / `reduction` of those that have come so far "
        "go on. `median`: a trial ends once its best value is worse than the median of the others' "
        "averages"
    )
    metric: str = Field(
        min_length=1, max_length=LONGEST_METRIC, description="any metric that trials journal"
    )
    mode: Literal["min", "max"] = Field(description="whether a smaller or a larger value is better")
    grace_steps: int = Field(
        ge=1,
        le=MOST_STEPS,
        description="no trial is stopped before this step; the first rung of `asha`",
    )
    reduction: float = Field(
        4.0,
        gt=1,
        le=1_000,
        description="`asha`: each rung is at this multiple of the one before, and lets this "
        "fraction through",
    )
    brackets: int = Field(
        1,
        ge=1,
        le=32,
        description="`asha`: in bracket n the first n rungs are left out; a trial's id decides its "
        "bracket",
    )
    min_samples: int = Field(
        3, ge=1, le=10_000, description="`median`: the other trials that it takes to judge one"
    )
    across_norms: bool = Field(
        False, description="whether a trial may be stopped because another norm's is ahead"
    )
