"""Variance components of each norm's final scores: seed, image, and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from orchestrator.plan.axes import COMPARED
from orchestrator.report.comparable import MEAN
from orchestrator.report.contrasts import NO_IMAGES, Place, Scores, places, scores
from orchestrator.report.frame import Frame
from orchestrator.statistics.components import COLUMNS, Component, as_rows, variance_components
from orchestrator.statistics.interval import Unknown


@dataclass(frozen=True)
class Spread:
    """The components of one norm's scores at a place, of so many seeds and images."""

    place: Place
    norm: str
    num_seeds: int
    num_images: int
    components: tuple[Component, ...] | Unknown


def spreads(frame: Frame) -> tuple[Spread, ...]:
    """Of every norm at every place where it has scores that can be averaged."""
    found = []
    for place in places(frame):
        for norm in frame.names(COMPARED):
            of = scores(frame, place, norm)
            if isinstance(of, Scores):
                has_images = of.images != (MEAN,)
                found.append(
                    Spread(
                        place,
                        norm,
                        len(of.seeds),
                        len(of.images) if has_images else 0,
                        variance_components(of.table) if has_images else NO_IMAGES,
                    )
                )
    return tuple(found)


def as_frame(frame: Frame, found: Sequence[Spread]) -> pd.DataFrame:
    """A row for each component, as components.csv; without components, one row says why."""
    axes = [axis.name for axis in frame.axes if axis.role != "repeat"]
    columns = [*axes, "size", "set", "metric", "inference_precision", "tile", "seeds", "images"]
    rows = [row for spread in found for row in _rows(spread)]
    return pd.DataFrame(rows, columns=[*columns, *COLUMNS], dtype=object)


def _rows(spread: Spread) -> list[dict[str, Any]]:
    place = spread.place
    where = {
        **place.labels,
        COMPARED: spread.norm,
        "size": place.size,
        "set": place.set,
        "metric": place.metric,
        "inference_precision": place.precision,
        "tile": place.tile,
        "seeds": spread.num_seeds,
        "images": spread.num_images,
    }
    if isinstance(spread.components, Unknown):
        return [{**where, **dict.fromkeys(COLUMNS, ""), "note": spread.components.reason}]
    return [{**where, **row} for row in as_rows(spread.components)]
