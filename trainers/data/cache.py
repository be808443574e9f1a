"""A node's cache of what is costly to make: fetched data sets and decoded images.

All trials on the node share it. An entry is a folder. Whoever asks for it first builds it aside,
under a lock, and renames it when it is complete, so no reader ever sees half of one. Readers lock
the entries they use. When the size limit is exceeded, entries that nobody uses are deleted, the
least recently used first. Locks are flock(2), so a killed process leaves none behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trainers.durable import fsync, fsync_tree
from trainers.errors import EnvironmentProblem

CACHE_VARIABLE = "NORMSWEEP_CACHE"
LIMIT_VARIABLE = "NORMSWEEP_CACHE_GB"
DEFAULT_LIMIT_GB = 200.0
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
BUILDING = "building"
RESERVED = "reserved-bytes"  # in an unfinished entry: how large it will be


def cache_root(default: Path | None = None) -> Path:
    """This node's cache: NORMSWEEP_CACHE, or `default`, or a folder in the user's home."""
    return Path(os.environ.get(CACHE_VARIABLE) or default or Path.home() / ".cache" / "normsweep")


class CacheProblem(EnvironmentProblem):
    """The cache cannot hold what is needed; the message says how much, where, and what to do."""

    kind = "cache"


def cache_limit_bytes() -> int:
    """The size limit, NORMSWEEP_CACHE_GB. Raises CacheProblem if that is not a positive number."""
    given = os.environ.get(LIMIT_VARIABLE, "")
    try:
        gigabytes = float(given) if given else DEFAULT_LIMIT_GB
    except ValueError:
        gigabytes = -1.0
    if not gigabytes > 0:
        raise CacheProblem(
            f"{LIMIT_VARIABLE} is {given!r}. Give the cache's size limit in gigabytes, e.g. 200."
        )
    return int(gigabytes * 1e9)


class Cache:
    """The cache in the folder `root`.

    The entries that this object has handed out are kept for as long as it lives.
    """

    def __init__(self, root: Path, limit_bytes: int | None = None) -> None:
        self.root = root
        self._limit = cache_limit_bytes() if limit_bytes is None else limit_bytes
        self._held: dict[str, IO[str]] = {}

    def entry(
        self,
        key: str,
        size: Callable[[], int],
        build: Callable[[Path], None],
        *,
        resumable: bool = False,
    ) -> Path:
        """The folder of the entry `key`; if it is missing, `build(folder)` makes it.

        `size()` is the number of bytes it will have. Of any number of callers, in any number of
        processes, one builds and the others wait for it. If `resumable`, `build` continues with
        what a killed build has left behind. Raises CacheProblem, and whatever `build` raises.
        """
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a cache key")
        path = self.root / "entries" / key
        with self._mapped():
            (self.root / "entries").mkdir(parents=True, exist_ok=True)
            (self.root / "locks").mkdir(exist_ok=True)
            while True:  # again if the entry is evicted before it can be locked for use
                use = self._lock(key)
                fcntl.flock(use, fcntl.LOCK_SH)
                if path.is_dir():
                    os.utime(path)  # eviction goes by the time of last use
                    self._held[key] = use
                    return path
                use.close()
                # A separate lock: whoever waits for the builder must not also wait for the readers
                # of what it has made.
                with self._lock(key, BUILDING) as building:
                    fcntl.flock(building, fcntl.LOCK_EX)
                    if not path.is_dir():
                        self._build(path, size(), build, resumable=resumable)

    def _build(
        self, path: Path, needed_bytes: int, build: Callable[[Path], None], *, resumable: bool
    ) -> None:
        part = path.with_name(f"{path.name}.part")
        if not resumable:
            shutil.rmtree(part, ignore_errors=True)
        self._make_room(part, needed_bytes)
        try:
            build(part)
        except Exception as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full or not resumable:  # half an entry would keep the disk full
                shutil.rmtree(part, ignore_errors=True)
            raise
        (part / RESERVED).unlink()
        fsync_tree(part)
        part.rename(path)
        fsync(path.parent)

    def _make_room(self, part: Path, needed_bytes: int) -> None:
        """Evict entries until `part` fits, and reserve its size. Builders do this one at a time."""
        with self._lock("room") as room:
            fcntl.flock(room, fcntl.LOCK_EX)
            present = [entry for entry in self.present() if entry.path != part]
            total = sum(entry.size_bytes for entry in present) + needed_bytes
            for entry in sorted(present, key=lambda entry: entry.used_s):
                if total <= self._limit:
                    break
                if self.evict(entry.path):
                    total -= entry.size_bytes
            if total > self._limit:
                used = total - needed_bytes
                raise CacheProblem(
                    f"{needed_bytes / 1e9:.3f} GB will not fit in the cache {self.root}: its limit "
                    f"is {self._limit / 1e9:.3f} GB, and {used / 1e9:.3f} GB are in use. Raise "
                    f"{LIMIT_VARIABLE}, or set {CACHE_VARIABLE} to a folder on another disk."
                )
            part.mkdir(exist_ok=True)
            (part / RESERVED).write_text(str(needed_bytes))

    def present(self) -> list[Present]:
        """The entries in the cache, finished or not; nothing is made to look."""
        folder = self.root / "entries"
        return [Present.look(entry) for entry in folder.iterdir()] if folder.is_dir() else []

    def evict(self, entry: Path) -> bool:
        """Delete the entry unless somebody is using or building it; returns whether it is gone."""
        key = entry.name.removesuffix(".part")
        whole, part = entry.with_name(key), entry.with_name(f"{key}.part")
        with self._lock(key) as use, self._lock(key, BUILDING) as building:
            try:
                for lock in (use, building):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            # The entry was listed before it was locked. Since then its builder may have finished
            # it or given up.
            if part.exists():
                shutil.rmtree(part)
            if whole.exists():
                whole.rename(part)  # in one step: a reader sees all of it or nothing
                shutil.rmtree(part)
            return True

    def _lock(self, name: str, kind: str = "lock") -> IO[str]:
        return (self.root / "locks" / f"{name}.{kind}").open("w")

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn errors of the file system into CacheProblem."""
        try:
            yield
        except OSError as error:
            if error.errno is None:  # raised by a library, not by the file system
                raise
            raise CacheProblem(
                f"the cache {self.root} cannot be used: {error.strerror} "
                f"({error.filename or self.root}). Free space or make it writable, or set "
                f"{CACHE_VARIABLE} to a folder on another disk."
            ) from error


@dataclass(frozen=True)
class Present:
    """An entry as it was found, complete or unfinished; one that has since vanished has size 0."""

    path: Path
    used_s: float
    size_bytes: int

    @classmethod
    def look(cls, entry: Path) -> Present:
        try:
            return cls(entry, entry.stat().st_mtime, _size(entry))
        except FileNotFoundError:
            return cls(entry, math.inf, 0)


def _size(entry: Path) -> int:
    """The size of an entry in bytes; for an unfinished one, the size that it will have."""
    try:
        if (entry / RESERVED).exists():
            return int((entry / RESERVED).read_text() or 0)
        return sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
    except FileNotFoundError:  # deleted or renamed while we looked
        return 0
