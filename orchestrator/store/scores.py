"""Scores of single images, from a trial's journals and from what `normsweep evaluate` kept.

Every trial is scored on the same images, so trials can be compared image by image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from orchestrator.store.base import Store
from orchestrator.store.journals import Event
from orchestrator.store.records import (
    CHECKSUM,
    EVALUATION,
    Count,
    Damaged,
    Name,
    Record,
    Shape,
    Value,
    read_record,
)


class ImageShape(Shape):
    """One image and its metrics, whichever it has."""

    __pydantic_extra__: dict[str, Value] = Field(init=False)

    name: str


class ScoresShape(Shape):
    """The event `scores` of a journal."""

    set: Name
    step: Count
    images: list[ImageShape]


# A record's other fields say how it was scored, so a field that is new here makes scores differ
# until it is listed; it is never overlooked.
NOT_HOW = frozenset(
    {
        *("seq", "time", "step", "kind", "event", "set", "images"),
        *("of", "set_sha256", "benchmark", "precision", "per_channel", "tile_px", "overlap_px"),
        *("task", "versions", CHECKSUM, "input_images"),
    }
)

SOURCES: Mapping[str, Literal["training", "input"]] = MappingProxyType(
    {"scores": "training", "input_scores": "input"}
)  # by event
SCORES = TypeAdapter(ScoresShape)
IMAGES = TypeAdapter(list[ImageShape])


@dataclass(frozen=True)
class Score:
    """One metric of one image. `precision` and `tile` say how an evaluation ran the network.

    `how` is what a task's `how_scored` says, in words: `border_px 2, compared Y, lr_mode u8`; "" if
    it was not recorded. The source `input` is no network: the degraded image itself was scored.
    `set_sha256` is the checksum of the set, which only evaluations record.
    """

    set: str
    image: str
    metric: str
    value: float
    step: int | None
    source: Literal["training", "evaluation", "input"]
    precision: str = ""
    tile: str = ""
    how: str = ""
    set_sha256: str = ""


def trained_scores(events: Iterable[Event]) -> Iterator[Score]:
    """The scores that training noted, of networks and of their inputs.

    If several attempts scored a set at the same step, the first counts.
    """
    seen = set()
    for event in events:
        record = event.record
        source = SOURCES.get(str(record.get("event")))
        if source is None or not _fits(record, SCORES):
            continue
        at = source, record["set"], record["step"]
        if at not in seen:
            seen.add(at)
            yield from _of_images(
                record["images"],
                set=record["set"],
                step=record["step"],
                source=source,
                how=_how(record),
            )


def evaluated_scores(store: Store, evaluations: Iterable[str]) -> tuple[list[Score], list[Damaged]]:
    """The scores in a trial's evaluations, given their keys, and those that are damaged."""
    scores: list[Score] = []
    damaged = []
    for key in evaluations:
        record = read_record(store, key, EVALUATION)
        if isinstance(record, Damaged):
            damaged.append(record)
        elif record is not None and _fits(record["images"], IMAGES):
            step = record.get("step")
            scores += _of_images(
                record["images"],
                set=record["benchmark"],
                step=step if isinstance(step, int) else None,
                source="evaluation",
                precision=record["precision"]
                + (" per channel" if record.get("per_channel") else ""),
                tile=_tile(record),
                how=_how(record),
                set_sha256=str(record.get("set_sha256") or ""),
            )
            inputs = record.get("input_images", [])
            if _fits(inputs, IMAGES):
                scores += _of_images(
                    inputs, set=record["benchmark"], step=0, source="input", how=_how(record)
                )
    return scores, damaged


def _tile(record: Record) -> str:
    """`256+16`: the side of a tile and the context around it, in LQ pixels; "" without tiles."""
    tile, overlap = record.get("tile_px"), record.get("overlap_px")
    return f"{tile}+{overlap or 0}" if tile else ""


def _how(record: Record) -> str:
    """How a record's images were scored: all its fields that are neither known nor a metric."""
    known = NOT_HOW.union(*record["images"])
    return ", ".join(
        f"{name} {record[name]}"
        for name in sorted(record)
        if name not in known and record[name] is not None
    )


def _of_images(images: list[Record], **common: Any) -> Iterator[Score]:
    for image in images:
        name = image["name"].encode("utf-8", "replace").decode()  # a file's name need not be text
        for metric, value in image.items():
            if metric != "name":
                yield Score(image=name, metric=metric, value=float(value), **common)


def _fits(value: Any, shape: TypeAdapter[Any]) -> bool:
    """Whether a record has a shape that can be read here; an older version's may not."""
    try:
        shape.validate_python(value)
    except ValidationError:
        return False
    return True
