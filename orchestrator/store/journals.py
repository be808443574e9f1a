"""Journals of a trial's attempts: segments of whole lines, each with its checksum in its name.

    trials/<id>/attempts/<n>/journal/<first-seq>-<sha256[:16]>.jsonl               as shipped
    trials/<id>/attempts/<n>/journal/<first-seq>-<last-seq>-<sha256[:16]>.jsonl    joined

When a trial ends, each attempt's segments are joined into one and the originals deleted. Originals
that a kill left behind are skipped: the joined segment's name says that it has their lines. Beside
a joined segment lies a copy that is read faster (orchestrator.store.columns).

Older versions named segments `<first-seq>.jsonl`. A segment that is cut, changed or malformed is
skipped as a whole; a missing one shows as a gap in the line numbers around it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from orchestrator.store.base import Store
from orchestrator.store.lines import Line, Odd, checked_lines
from orchestrator.store.records import Damaged, Record, read_bytes

if TYPE_CHECKING:
    from orchestrator.store.columns import Columns  # numpy, which no look needs

L = TypeVar("L", bound=Sized)
SEGMENT = re.compile(
    r"trials/[^/]+/attempts/(?P<attempt>[1-9]\d{0,8})/journal/(?P<first>\d{10,15})"
    r"(?:-(?P<last>\d{10,15}))?(?:-(?P<digest>[0-9a-f]{16}))?\.jsonl"
    r"(?=/|$)"  # a `/` if a folder is in a segment's place
)
DIGEST_DIGITS = 16
READERS = 16  # requests at a time, because a store may be far away


@dataclass(frozen=True)
class Point:
    """One value of a metric, as written by the first attempt that journalled it."""

    metric: str
    step: int
    value: float
    time: float
    attempt: int
    seq: int


@dataclass(frozen=True)
class Event:
    """A journal line that is not a metric, as it was written."""

    attempt: int
    record: Record


@dataclass(frozen=True, order=True)
class Segment:
    """A segment, as its name describes it."""

    attempt: int
    first_seq: int
    key: str
    digest: str | None = field(compare=False)
    last_seq: int | None = field(default=None, compare=False)  # only of a joined segment

    def has_all_of(self, other: Segment) -> bool:
        """Whether this is a joined segment that includes all lines of the other one."""
        if (
            self.last_seq is None
            or self.attempt != other.attempt
            or other.first_seq < self.first_seq
        ):
            return False
        if other.last_seq is None:
            return other.first_seq <= self.last_seq
        return (other.first_seq, other.last_seq) != (
            self.first_seq,
            self.last_seq,
        ) and other.last_seq <= self.last_seq

    @property
    def copy(self) -> str:
        """The key of its lines in columns, which only a joined segment has."""
        return f"{self.key.removesuffix('.jsonl')}.columns"

    def is_named_for(self, columns: Columns, sha256: str) -> bool:
        """Whether its name fits these lines."""
        last = columns.first_seq + len(columns) - 1
        return (self.digest, self.first_seq, self.last_seq) == (
            sha256[:DIGEST_DIGITS],
            columns.first_seq,
            last,
        )


def put_segment(store: Store, trial_id: str, attempt: int, first_seq: int, lines: bytes) -> None:
    """Ship whole journal lines, of which the first has number `first_seq`."""
    digest = hashlib.sha256(lines).hexdigest()[:DIGEST_DIGITS]
    store.put_once(
        f"trials/{trial_id}/attempts/{attempt}/journal/{first_seq:010d}-{digest}.jsonl", lines
    )


def segments_among(keys: Iterable[str]) -> list[Segment]:
    """Every segment among these keys, in the order in which they were journalled."""
    found = (SEGMENT.match(key) for key in keys)
    return sorted(
        {
            Segment(
                int(m["attempt"]),
                int(m["first"]),
                m[0],
                m["digest"],
                int(m["last"]) if m["last"] else None,
            )
            for m in found
            if m
        }
    )


def segments(store: Store, trial_id: str) -> list[Segment]:
    """Every segment of a trial, in the order in which they were journalled."""
    return segments_among(store.list(f"trials/{trial_id}/attempts"))


def without_joined(among: Sequence[Segment]) -> list[Segment]:
    """The segments, except those whose lines are all in a joined one."""
    joined = [segment for segment in among if segment.last_seq is not None]
    return [segment for segment in among if not any(one.has_all_of(segment) for one in joined)]


def lines_of(segment: Segment, content: bytes, sha256: str) -> Sequence[Line] | Damaged:
    """The lines in a segment's content, if it is whole; `sha256` is the content's."""
    try:
        lines = checked_lines(content)
    except ValueError as error:
        return Damaged(segment.key, str(error))
    if segment.digest not in (None, sha256[:DIGEST_DIGITS]):
        return Damaged(segment.key, "does not have the checksum in its name")
    if [line.seq for line in lines] != list(
        range(segment.first_seq, segment.first_seq + len(lines))
    ):
        return Damaged(segment.key, f"does not number its lines from {segment.first_seq} on")
    if segment.last_seq not in (None, segment.first_seq + len(lines) - 1):
        return Damaged(segment.key, f"does not end with line {segment.last_seq}")
    return lines


class JournalReader:
    """The journals of a trial's attempts as one history, in which every (metric, step) occurs once.

    If several attempts journalled the same one, the first counts. Damaged segments are skipped and
    listed in `damaged`; `checksums` has the SHA-256 of each segment that was read. `events`, if
    given, receives the lines that are not metrics.
    """

    def __init__(self, store: Store, events: list[Event] | None = None) -> None:
        self._store = store
        self._events = events
        self._seen: set[tuple[str, int]] = set()
        self._next: dict[int, int | None] = {}  # attempt -> number of its next line, if known
        self.damaged: list[Damaged] = []
        self.checksums: dict[str, str] = {}
        self.is_behind = False

    def has_read(self, segment: Segment) -> bool:
        """Whether a segment's lines have been read, from it or from those that it joins."""
        expected = self._next.get(segment.attempt)
        was_joined = (
            segment.last_seq is not None and expected is not None and segment.last_seq < expected
        )
        return segment.key in self.checksums or was_joined

    def new_points(self, listed: Sequence[Segment], *, may_wait: bool = True) -> Iterator[Point]:
        """The points in those segments of a fresh listing that have not been read yet.

        A listing made while segments arrive may include one and miss its predecessor; one made
        while they are joined may name some that are gone. With `may_wait`, the reader stops there
        and sets `is_behind`; if the next listing is no better, it goes on and notes the damage.
        """
        for segment, lines in self.new_lines(listed, may_wait=may_wait):
            for line in lines:
                yield from self._points_of(segment.attempt, line)

    def new_lines(
        self, listed: Sequence[Segment], *, may_wait: bool = True
    ) -> Iterator[tuple[Segment, Sequence[Line]]]:
        """The same segments with all their lines, including points that came before."""
        for segment, lines in self._new(listed, lines_of, may_wait=may_wait):
            self._note(
                segment,
                (line.record for line in lines if isinstance(line, Odd) and line.kind == "event"),
            )
            yield segment, lines

    def new_columns(
        self, listed: Sequence[Segment], copies: Container[str]
    ) -> Iterator[tuple[Segment, Columns]]:
        """The same lines in columns; `copies`: keys of those that the store has."""
        from orchestrator.store.columns import Columns, from_bytes

        def read(segment: Segment, content: bytes, sha256: str) -> Columns | Damaged:
            if segment.copy in copies:
                copy = read_bytes(self._store, segment.copy)
                columns = from_bytes(copy, sha256) if isinstance(copy, bytes) else None
                if columns is not None and segment.is_named_for(columns, sha256):
                    return columns
            lines = lines_of(segment, content, sha256)
            return lines if isinstance(lines, Damaged) else Columns.of(lines)

        for segment, columns in self._new(listed, read, may_wait=False):
            self._note(segment, columns.events)
            yield segment, columns

    def _new(
        self,
        listed: Sequence[Segment],
        read: Callable[[Segment, bytes, str], L | Damaged],
        *,
        may_wait: bool,
    ) -> Iterator[tuple[Segment, L]]:
        may_wait, self.is_behind = may_wait and not self.is_behind, False
        for segment in without_joined(listed):
            if self.has_read(segment):
                continue
            content = (
                None
                if may_wait and self._is_behind_a_hole(segment)
                else read_bytes(self._store, segment.key)
            )
            if content is None and may_wait:
                self.is_behind = True
                return
            if (lines := self._lines_in(segment, content, read)) is not None:
                yield segment, lines

    def _note(self, segment: Segment, events: Iterable[Record]) -> None:
        if self._events is not None:
            self._events += [Event(segment.attempt, record) for record in events]

    def _lines_in(
        self,
        segment: Segment,
        content: bytes | Damaged | None,
        read: Callable[[Segment, bytes, str], L | Damaged],
    ) -> L | None:
        lines: L | Damaged = Damaged(segment.key, "is missing")
        self.checksums[segment.key] = ""
        if isinstance(content, bytes):
            sha256 = self.checksums[segment.key] = hashlib.sha256(content).hexdigest()
            lines = read(segment, content, sha256)
        elif isinstance(content, Damaged):
            lines = content
        if isinstance(lines, Damaged):
            self.damaged.append(lines)
            self._next[segment.attempt] = None  # its number of lines is unknown
            return None
        self._follow(segment, len(lines))
        return lines

    def _is_behind_a_hole(self, segment: Segment) -> bool:
        expected = self._next.get(segment.attempt, 0)
        return expected is not None and segment.first_seq > expected

    def _follow(self, segment: Segment, count: int) -> None:
        """Note lines missing before a segment, and lines that an earlier segment had already."""
        expected = self._next.get(segment.attempt, 0)
        if self._is_behind_a_hole(segment):
            lost = f"lacks the lines before it, {expected} to {segment.first_seq - 1}"
            self.damaged.append(Damaged(segment.key, lost))
        elif expected is not None and segment.first_seq < expected and segment.last_seq is None:
            self.damaged.append(Damaged(segment.key, f"repeats lines from {segment.first_seq} on"))
        self._next[segment.attempt] = max(segment.first_seq + count, expected or 0)

    def _points_of(self, attempt: int, line: Line) -> Iterator[Point]:
        for metric, value in line.values.items():
            if (metric, line.step) not in self._seen:
                self._seen.add((metric, line.step))
                yield Point(metric, line.step, float(value), line.time, attempt, line.seq)


# --- joining --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joined:
    """The segments that a trial's result should name, and the keys to delete once it does."""

    segments: dict[str, str]  # key -> SHA-256
    superseded: tuple[str, ...]  # with the copies of joined ones


def join_segments(store: Store, trial_id: str, listed: Sequence[Segment]) -> Joined:
    """Write each attempt's journal as one segment. A damaged journal is left as it is.

    Nothing is deleted here, because the trial's result must name the new segments first. Raises
    EnvironmentProblem if a segment cannot be read.
    """
    needed = without_joined(listed)
    named: dict[str, str] = {}
    superseded: list[str] = []
    with ThreadPoolExecutor(READERS) as readers:
        for attempt, group in groupby(listed, key=lambda segment: segment.attempt):
            there = list(group)
            parts = [segment for segment in there if segment in needed]
            contents = list(readers.map(lambda part: store.get(part.key), parts))
            lines = _lines_among(parts, contents)
            if lines is not None and len(parts) > 1:
                contents = [b"".join(contents)]
                parts = [_put_joined(store, trial_id, attempt, contents[0], lines)]
            for part, content in zip(parts, contents, strict=True):
                named[part.key] = hashlib.sha256(content).hexdigest()
            if lines is not None:  # mending a damaged journal may need every piece of it
                unnamed = [segment for segment in there if segment.key not in named]
                superseded += [segment.key for segment in unnamed]
                superseded += [one.copy for one in unnamed if one.last_seq is not None]
    return Joined(named, tuple(superseded))


def _put_joined(
    store: Store, trial_id: str, attempt: int, content: bytes, lines: Sequence[Line]
) -> Segment:
    from orchestrator.store.columns import Columns

    sha256 = hashlib.sha256(content).hexdigest()
    digest, last = sha256[:DIGEST_DIGITS], len(lines) - 1
    name = f"{0:010d}-{last:010d}-{digest}.jsonl"
    key = f"trials/{trial_id}/attempts/{attempt}/journal/{name}"
    segment = Segment(attempt, 0, key, digest, last)
    store.put(key, content)
    store.put(segment.copy, Columns.of(lines).to_bytes(sha256))
    return segment


def _lines_among(parts: Sequence[Segment], contents: Sequence[bytes]) -> list[Line] | None:
    """All lines, from the first one on; None if a segment is damaged or missing."""
    found: list[Line] = []
    for part, content in zip(parts, contents, strict=True):
        lines = lines_of(part, content, hashlib.sha256(content).hexdigest())
        if isinstance(lines, Damaged) or part.first_seq != len(found):
            return None
        found += lines
    return found
