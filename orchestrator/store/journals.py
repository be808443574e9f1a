"""The journals of a trial's attempts: segments of whole lines, each written once, its checksum in its name.

    trials/<id>/attempts/<n>/journal/<first-seq>-<sha256[:16]>.jsonl

Segments of older versions are called `<first-seq>.jsonl`. A segment that is cut, changed or of another shape is passed over
as a whole, and one that is gone is seen by the numbers of the lines around it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.store.base import Store
from orchestrator.store.records import Damaged, Record, checked_lines, read_bytes

SEGMENT = re.compile(
    r"trials/[^/]+/attempts/(?P<attempt>[1-9]\d{0,8})/journal/(?P<first>\d{10,15})(?:-(?P<digest>[0-9a-f]{16}))?\.jsonl"
    r"(?=/|$)"  # of a folder in a segment's place, keys go on
)
DIGEST_DIGITS = 16


@dataclass(frozen=True)
class Point:
    """One value of a metric, as the attempt that was first to journal it wrote it."""

    metric: str
    step: int
    value: float
    time: float
    attempt: int
    seq: int


@dataclass(frozen=True, order=True)
class Segment:
    """Where a segment is, by its name."""

    attempt: int
    first_seq: int
    key: str
    digest: str | None = field(compare=False)


def put_segment(store: Store, trial_id: str, attempt: int, first_seq: int, lines: bytes) -> None:
    """Ship whole journal lines, of which the first has number `first_seq`."""
    digest = hashlib.sha256(lines).hexdigest()[:DIGEST_DIGITS]
    store.put_once(f"trials/{trial_id}/attempts/{attempt}/journal/{first_seq:010d}-{digest}.jsonl", lines)


def segments(store: Store, trial_id: str) -> list[Segment]:
    """Every segment, in the order in which they were journalled."""
    found = (SEGMENT.match(key) for key in store.list(f"trials/{trial_id}/attempts"))
    return sorted({Segment(int(m["attempt"]), int(m["first"]), m[0], m["digest"]) for m in found if m})


def read_segment(store: Store, segment: Segment) -> list[Record] | Damaged:
    """The lines of a segment that is whole."""
    content = read_bytes(store, segment.key)
    if content is None:
        return Damaged(segment.key, "is missing")
    if isinstance(content, Damaged):
        return content
    try:
        lines = checked_lines(content)
    except ValueError as error:
        return Damaged(segment.key, str(error))
    if segment.digest not in (None, hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS]):
        return Damaged(segment.key, "does not have the checksum in its name")
    if [line["seq"] for line in lines] != list(range(segment.first_seq, segment.first_seq + len(lines))):
        return Damaged(segment.key, f"does not number its lines from {segment.first_seq} on")
    return lines


class JournalReader:
    """The journals of a trial's attempts as one history, in which every (metric, step) stands once.

    Where two attempts journalled the same one, the first counts. Damaged segments are passed over, and stand in `damaged`.
    """

    def __init__(self, store: Store, trial_id: str) -> None:
        self._store = store
        self._trial_id = trial_id
        self._read: set[str] = set()
        self._seen: set[tuple[str, int]] = set()
        self._next: dict[int, int] = {}  # by attempt: the number of the line that comes next
        self.damaged: list[Damaged] = []

    def new_points(self) -> Iterator[Point]:
        """What has been shipped since the last call."""
        for segment in segments(self._store, self._trial_id):
            if segment.key in self._read:
                continue
            lines = read_segment(self._store, segment)
            if isinstance(lines, Damaged):
                self.damaged.append(lines)
                self._next.pop(segment.attempt, None)  # how many lines it had is not known
            else:
                self._follow(segment, len(lines))
                for line in lines:
                    yield from self._points_of(segment.attempt, line)
            self._read.add(segment.key)

    def _follow(self, segment: Segment, count: int) -> None:
        """Note a hole before a segment, and lines that another had already."""
        after_damage = any(damaged.key.startswith(segment.key.rpartition("/")[0]) for damaged in self.damaged)
        expected = self._next.get(segment.attempt, None if after_damage else 0)
        if expected is not None and segment.first_seq > expected:
            lost = f"lacks the lines before it, {expected} to {segment.first_seq - 1}"
            self.damaged.append(Damaged(segment.key, lost))
        elif expected is not None and segment.first_seq < expected:
            self.damaged.append(Damaged(segment.key, f"repeats lines from {segment.first_seq} on"))
        self._next[segment.attempt] = max(segment.first_seq + count, expected or 0)

    def _points_of(self, attempt: int, record: Record) -> Iterator[Point]:
        step = record["step"]
        for metric, value in record.get("values", {}).items():
            if (metric, step) not in self._seen:
                self._seen.add((metric, step))
                yield Point(metric, step, float(value), record["time"], attempt, record["seq"])


@dataclass(frozen=True)
class Journal:
    """The history of a trial, and what of it is damaged: then the points are not all there, and some may be repetitions."""

    points: tuple[Point, ...]
    damaged: tuple[Damaged, ...]


def read_journal(store: Store, trial_id: str) -> Journal:
    """Every (metric, step) of a trial once.

    A listing made while segments arrive may have a later one without an earlier one: a hole counts when it is still there
    at a second look.
    """
    for _ in range(2):
        reader = JournalReader(store, trial_id)
        points = tuple(reader.new_points())
        if not reader.damaged:
            break
    return Journal(points, tuple(reader.damaged))


def read_points(store: Store, trial_id: str) -> Iterator[Point]:
    """Every undamaged (metric, step) of a trial once."""
    return JournalReader(store, trial_id).new_points()
