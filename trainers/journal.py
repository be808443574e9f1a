"""The journal of a run folder: metrics and events of training, one JSON object per line.

    {"seq": 0, "time": 1764000000.123, "step": 10, "kind": "metrics",
     "values": {"train/loss": 0.05}}
    {"seq": 1, "time": 1764000000.456, "step": 10, "kind": "event",
     "event": "checkpoint", "name": "step-00000010"}

(Each is wrapped here.) Rank 0 appends to it. JSON has no NaN: a value that is not finite is the
text "nan", "inf" or "-inf", which `float` reads back. A line counts once its newline is there, so
a reader never sees half a line.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self


def encoded(value: float) -> float | str:
    """The value as JSON can hold it."""
    return value if math.isfinite(value) else str(value)


def encoded_scores(scores: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scores of images by name, as JSON can hold them: the same however images were dealt out."""
    return [
        {key: encoded(v) if isinstance(v, float) else v for key, v in score.items()}
        for score in sorted(scores, key=lambda score: str(score["name"]))
    ]


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The finished lines of a journal, in order; an unfinished last line is left out."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


class Journal:
    """Appends to `path`. An unfinished last line, which a kill can leave, is cut off first."""

    def __init__(self, path: Path) -> None:
        finished = (
            [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
            if path.exists()
            else []
        )
        self._seq = len(finished)
        self._file = path.open("a", encoding="utf-8")
        self._file.truncate(sum(map(len, finished)))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._append(
            step, "metrics", {"values": {name: encoded(value) for name, value in values.items()}}
        )

    def event(self, step: int, event: str, **fields: Any) -> None:
        self._append(step, "event", {"event": event, **fields})

    def _append(self, step: int, kind: str, fields: Mapping[str, Any]) -> None:
        record = {
            "seq": self._seq,
            "time": round(time.time(), 3),
            "step": step,
            "kind": kind,
            **fields,
        }
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()  # others read the journal while it grows
        self._seq += 1

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
