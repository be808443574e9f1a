"""Restored crops side by side: the input, each norm, and the ground truth.

Trials keep crops when they end (trainers.crops). Of each network, task and recipe the largest size
is shown, with the first seed at which most norms have crops. Of their crops, the window is shown in
which the norms differ most: that with the largest sum, over its pixels and channels, of the
variance between the norms; of several, the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.states import State
from orchestrator.report.frame import Frame
from orchestrator.store.base import Store, Unreadable

RESTORED, INPUT, TRUTH = "restored", "input", "truth"  # as trainers.crops, which needs torch
WINDOW_PX = 48
MOST_SCENES = 6

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """One place, with the pixels of each norm; `lacking` says why others have none.

    `at` is the corner of the window in the whole image, (row, column), and `spread` the standard
    deviation between the norms over the window, in levels of 255.
    """

    labels: Mapping[str, Any]
    size: str
    seed: int
    image: str
    at: tuple[int, int]
    source: Pixels
    norms: Mapping[str, Pixels]
    truth: Pixels
    spread: float
    lacking: Mapping[str, str]


def scenes(frame: Frame, store: Store) -> tuple[Scene, ...]:
    """What to show, in file order, at most MOST_SCENES; reads only what is shown."""
    (seeds,) = (axis.name for axis in frame.axes if axis.role == "repeat")
    by = [name for name in (*frame.tables_by, *frame.panels_by) if name != COMPARED]
    places: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in frame.rows:
        places.setdefault(tuple(str(row[name]) for name in by), []).append(row)
    found: list[Scene] = []
    for rows in places.values():
        largest = max(rows, key=lambda row: row["parameters"])["size"]
        rows = [row for row in rows if row["size"] == largest]
        keys = {row["trial"]: key for row in rows if (key := _key(frame, row))}
        counts = {row[seeds]: 0 for row in rows}
        for row in rows:
            counts[row[seeds]] += row["trial"] in keys
        seed = max(counts, key=lambda seed: counts[seed])
        if len(found) < MOST_SCENES and counts[seed] > 1:
            labels = {name: rows[0][name] for name in by}
            here = [row for row in rows if row[seeds] == seed]
            if (scene := _scene(here, keys, store, labels, seed)) is not None:
                found.append(scene)
    return tuple(found)


def _key(frame: Frame, row: Mapping[str, Any]) -> str:
    """Where a completed trial's crops are; "" if it has none."""
    look = frame.looks.get(row["trial"])
    if look is None or row["state"] != State.DONE:
        return ""
    return next((file.key for file in look.crops if file.step == row["step"]), "")


def _scene(
    rows: Sequence[Mapping[str, Any]],
    keys: Mapping[str, str],
    store: Store,
    labels: Mapping[str, Any],
    seed: int,
) -> Scene | None:
    lacking: dict[str, str] = {}
    read: dict[str, Mapping[str, Pixels]] = {}
    for row in rows:
        norm = str(row[COMPARED])
        if (key := keys.get(row["trial"])) is None:
            lacking[norm] = "it kept no crops" if row["state"] == State.DONE else str(row["state"])
            continue
        if (arrays := _read(store, key)) is None:
            lacking[norm] = "its crops cannot be read"
        else:
            read[norm] = arrays
    places = _places(read)
    shapes = [next(iter(read.values()))[f"{RESTORED}/{at}"].shape for at in places]
    for norm in [norm for norm, arrays in read.items() if not _has(arrays, places, shapes)]:
        lacking[norm] = "its crops are of other images"
        del read[norm]
    if len(read) < 2:
        return None
    best = max(
        ((*_window([arrays[f"{RESTORED}/{at}"] for arrays in read.values()]), at) for at in places),
        key=lambda window: window[0],
    )
    total, top, left, at = best
    corner, _, image = at.partition("/")
    above, before = map(int, corner.split(","))
    first = next(iter(read.values()))
    cut = (slice(top, top + WINDOW_PX), slice(left, left + WINDOW_PX))
    pixels = first[f"{TRUTH}/{at}"][cut]
    return Scene(
        labels,
        str(rows[0]["size"]),
        seed,
        image,
        (above + top, before + left),
        first[f"{INPUT}/{at}"][cut],
        {norm: arrays[f"{RESTORED}/{at}"][cut] for norm, arrays in read.items()},
        pixels,
        float(np.sqrt(total / pixels.size)),
        lacking,
    )


def _read(store: Store, key: str) -> Mapping[str, Pixels] | None:
    try:
        found = load(store.get(key))
    except (KeyError, Unreadable, SafetensorError):
        return None
    shapes = {pixels.shape for pixels in found.values()}
    are_images = all(len(shape) == 3 and shape[2] == 3 and min(shape) > 0 for shape in shapes)
    return found if are_images and all(p.dtype == np.uint8 for p in found.values()) else None


def _places(read: Mapping[str, Mapping[str, Pixels]]) -> list[str]:
    """The places `ROW,COLUMN/SET/IMAGE` of the first norm's crops."""
    first = next(iter(read.values()), {})
    return [name.partition("/")[2] for name in first if name.startswith(f"{RESTORED}/")]


def _has(
    arrays: Mapping[str, Pixels], places: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> bool:
    return bool(places) and all(
        f"{side}/{at}" in arrays and arrays[f"{side}/{at}"].shape == shape
        for side in (RESTORED, INPUT, TRUTH)
        for at, shape in zip(places, shapes, strict=True)
    )


def _window(restored: Sequence[Pixels]) -> tuple[float, int, int]:
    """The largest sum over a window of the variance between the norms, and the window's corner."""
    variance = np.stack(restored).astype(np.float64).var(axis=0).sum(axis=-1)
    high, wide = (min(WINDOW_PX, side) for side in variance.shape)
    sums = np.pad(variance.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    top, left = divmod(int(windows.argmax()), windows.shape[1])
    return float(windows[top, left]), top, left
