"""The `gate:` section of a sweep file: what a norm must keep, and against what it is compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trainers.choice import LONGEST_LIST, Choice, Part

LONGEST_METRIC = 100
MOST_BOUNDS = 32
Bounds = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=LONGEST_METRIC)], float],
    Field(max_length=MOST_BOUNDS),
]


def _as_tuple(value: Any) -> Any:
    if value in ("all", ["all"]):
        return ()  # the default
    return tuple(value) if isinstance(value, list) else value


class Gate(Part):
    """A sweep's gate. A field that is left out, or null, is not judged."""

    baseline: Choice = Field(
        description="what candidates are compared with: a norm of the sweep; a file `NAME.json` "
        "that `normsweep regress --update-baseline` wrote; or another sweep file `NAME.yaml`. The "
        "files lie beside this one or below"
    )
    candidates: Annotated[tuple[Choice, ...], BeforeValidator(_as_tuple)] = Field(
        (), max_length=LONGEST_LIST, description="the norms to judge; default: all but the baseline"
    )
    margin: float | None = Field(
        0.1, gt=0, le=100, description="PSNR: not worse than the baseline's by this many dB"
    )
    ssim_margin: float | None = Field(
        None, gt=0, le=1, description="SSIM: not worse than the baseline's by this much"
    )
    growth: float | None = Field(
        None,
        gt=0,
        description="at most this factor between the largest mean square of features at step 0 and "
        "at the end",
    )
    entropy: float | None = Field(
        None, ge=0, description="at least this channel entropy of features at the end, in nats"
    )
    fp16: Literal["finite"] | None = Field(
        None, description="`finite`: no value overflows where the network runs in fp16"
    )
    step_time: float | None = Field(
        None, gt=0, description="at most this multiple of the baseline's time of a step"
    )
    memory: float | None = Field(
        None, gt=0, description="at most this multiple of the baseline's memory"
    )
    parameters: Literal["equal"] | None = Field(
        None, description="`equal`: as many parameters as the baseline"
    )
    weights: Literal["equal"] | None = Field(
        None, description="`equal`: final weights with the bits of the baseline's"
    )
    at_most: Bounds = Field({}, description="upper bounds of recorded metrics at the last step")
    at_least: Bounds = Field({}, description="lower bounds of recorded metrics at the last step")
    error_rate: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="the chance of any false alarm in `looks` looks; a night is a look if "
        "something was trained",
    )
    looks: int = Field(200, ge=1, le=100_000, description="see `error_rate`")
    undecided: Literal["reported", "fails"] = Field(
        "reported", description="whether a gate that cannot be decided fails (exit 4), or exits 3"
    )
    notify: Literal["change", "always", "never"] = Field(
        "change",
        description="when to notify the addresses in NORMSWEEP_NOTIFY "
        "([regression.md](regression.md#notification))",
    )


@dataclass(frozen=True)
class GatePlan:
    """A sweep's gate with its names resolved.

    Exactly one of the three says what candidates are compared with: `norm` is the label of a norm
    of the sweep (`layer_norm`, `i_ln[rescale=False]`), `file` a baseline file, `sweep` another
    sweep's file. With the latter two a candidate is compared with the same norm there.
    `candidates` are labels. `unavailable` are candidates that cannot be trained, because their
    package or file is missing or is not Python: label and reason.
    """

    asked: Gate
    candidates: tuple[str, ...]
    norm: str = ""
    file: Path | None = None
    sweep: Path | None = None
    unavailable: tuple[tuple[str, str], ...] = ()
