"""A segment's lines in columns, and their copy beside a joined segment (decision 22).

    trials/<id>/attempts/<n>/journal/<first-seq>-<last-seq>-<sha256[:16]>.columns

A copy spares readers the decoding of JSON, and nothing else: they read and check the segment all
the same, and a copy that is missing, damaged or of other lines is passed over. It begins with the
SHA-256 of what follows and that of the segment.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.store.lines import Line, Odd
from orchestrator.store.records import Record

DIGEST_BYTES = 32
FORMAT = 1  # raised if the arrays change; copies of other formats are passed over


@dataclass(frozen=True, eq=False)
class Columns:
    """The lines of a segment. A line with metrics has an entry in `step`, `time`, `seq` and `set`.

    `set` is the number of its set of metrics in `sets`; `value` has the values of all lines, one
    after the other.
    """

    first_seq: int
    lines: int  # with and without metrics
    sets: tuple[tuple[str, ...], ...]
    events: tuple[Record, ...]
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    seq: NDArray[np.int64]
    set: NDArray[np.int32]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return self.lines

    @classmethod
    def of(cls, lines: Sequence[Line]) -> Columns:
        """The columns of some lines that follow each other. Few sets of metrics make up all."""
        measured = [line for line in lines if line.values]
        values: list[dict[str, Any]] = [line.values for line in measured]
        sets: defaultdict[tuple[str, ...], int] = defaultdict(count().__next__)
        of_line = map(sets.__getitem__, map(tuple, values))
        return cls(
            lines[0].seq if lines else 0,
            len(lines),
            # of_line fills `sets`, so it is evaluated first
            set=np.fromiter(of_line, dtype=np.int32, count=len(values)),
            sets=tuple(sets),
            events=tuple(
                line.record for line in lines if isinstance(line, Odd) and line.kind == "event"
            ),
            step=np.array([line.step for line in measured], dtype=np.int64),
            time=np.array([line.time for line in measured], dtype=np.float64),
            seq=np.array([line.seq for line in measured], dtype=np.int64),
            # "nan", "inf" and "-inf" are read as what they say
            value=np.array(list(chain.from_iterable(map(dict.values, values))), dtype=np.float64),
        )

    def to_bytes(self, segment_sha256: str) -> bytes:
        """A copy of the segment with this checksum."""
        from safetensors.numpy import save

        texts = {
            "format": FORMAT,
            "first_seq": self.first_seq,
            "lines": self.lines,
            "sets": self.sets,
            "events": self.events,
        }
        arrays = {
            "texts": np.frombuffer(json.dumps(texts).encode(), np.uint8),
            "step": self.step,
            "time": self.time,
            "seq": self.seq,
            "set": self.set,
            "value": self.value,
        }
        saved: bytes = save(arrays)
        rest = bytes.fromhex(segment_sha256) + saved
        return hashlib.sha256(rest).digest() + rest


def is_intact(copy: bytes) -> bool:
    """Whether a copy has the checksum with which it begins."""
    return hashlib.sha256(copy[DIGEST_BYTES:]).digest() == copy[:DIGEST_BYTES]


def from_bytes(copy: bytes, segment_sha256: str) -> Columns | None:
    """The columns in a copy; None if it is damaged, or not of the segment with this checksum."""
    from safetensors.numpy import load

    is_of_it = copy[DIGEST_BYTES : 2 * DIGEST_BYTES] == bytes.fromhex(segment_sha256)
    if not is_of_it or not is_intact(copy):
        return None
    arrays = load(copy[2 * DIGEST_BYTES :])
    texts = json.loads(arrays.pop("texts").tobytes())
    if texts["format"] != FORMAT:
        return None
    sets = tuple(map(tuple, texts["sets"]))
    return Columns(texts["first_seq"], texts["lines"], sets, tuple(texts["events"]), **arrays)
