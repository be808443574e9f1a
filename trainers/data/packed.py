"""Images decoded once into one memory-mapped file, so that a training step reads just a crop.

pixels.u8     every image's (H, W, 3) uint8, one after another
index.json    their names, heights and widths, in that order
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

from trainers.data.images import Pixels

T = TypeVar("T")
R = TypeVar("R")


class PackedImages(Sequence[Pixels]):
    """The images of a packed folder: read-only views, (H, W, 3) uint8, into one mapped file."""

    def __init__(self, folder: Path) -> None:
        self.names: list[str] = []
        self._views: list[Pixels] = []
        index = json.loads((folder / "index.json").read_bytes())
        mapped = np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="r")
        offset = 0
        for name, height, width in index:
            self.names.append(name)
            self._views.append(
                mapped[offset : offset + 3 * height * width].reshape(height, width, 3)
            )
            offset += 3 * height * width

    def __len__(self) -> int:
        return len(self._views)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        return self._views[index]


def pack(images: Iterable[tuple[str, Pixels]], folder: Path) -> None:
    """Write `images`, given with their names, as a packed folder."""
    index = []
    with (folder / "pixels.u8").open("wb") as file:
        for name, pixels in images:
            file.write(np.ascontiguousarray(pixels).data)
            index.append((name, *pixels.shape[:2]))
    (folder / "index.json").write_text(json.dumps(index))


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `work(item)` for every item, in order, on all cores; at most two results each wait."""
    cores = len(os.sched_getaffinity(0))
    # In chunks: `threads.map` takes all its items at once, and would keep every result in memory.
    remaining = iter(items)
    with ThreadPoolExecutor(cores) as threads:
        while chunk := list(itertools.islice(remaining, 2 * cores)):
            yield from threads.map(work, chunk)
