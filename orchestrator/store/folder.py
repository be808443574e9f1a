"""A store in a folder: blobs are files, written aside, fsynced and renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from orchestrator.errors import EnvironmentProblem
from orchestrator.store.base import InTheWay, Store, Unreadable, checked
from trainers.durable import fsync, sha256_of

LOCK = "lock"
# Holds files while they are written; below the root, so that renaming stays within one file system.
ASIDE = ".aside"
# Errors that only writing can cause, though copyfile's error names the file that was read.
OF_ROOM = (errno.ENOSPC, errno.EDQUOT)
OF_WRITING = frozenset({*OF_ROOM, errno.EROFS, errno.EFBIG})
# A file aside that nobody has written to for this long was left by a killed writer.
ABANDONED_AFTER_S = 86_400.0


class FolderStore(Store):
    """Blobs below `root`. Every process that opens it must see the same file system.

    If opened `to_write`, the folder is made and a write is tried at once; otherwise nothing is
    touched before the first write.
    """

    def __init__(self, root: Path, *, to_write: bool = True) -> None:
        self._root = root.absolute()
        self._aside = self._root / ASIDE
        self.uri = str(self._root)
        with self._mapped():
            if to_write:
                with self._aside_file():
                    pass
                self._clear_abandoned()
            elif self._root.exists() and not self._root.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self._root))

    def get(self, key: str) -> bytes:
        # Very many blobs are small, so that a look at each before it is opened would take as long
        # as reading it. What is in the way of one is found out when it could not be read.
        path = f"{self._root}/{checked(key)}"
        with contextlib.suppress(OSError), open(path, "rb", 0, opener=_at_once) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.readall()
        with self._reading(key) as careful:
            return careful.read_bytes()

    def put(self, key: str, content: bytes) -> None:
        path = self._path(key)
        with self._mapped(), self._written_aside(content) as aside:
            _make_folder(path.parent)
            aside.rename(path)
            fsync(path.parent)  # so that the new name survives a crash

    def put_once(self, key: str, content: bytes) -> bool:
        path = self._path(key)
        with self._mapped(), self._written_aside(content) as aside:
            _make_folder(path.parent)
            try:
                os.link(aside, path)  # unlike a rename, fails if the blob exists
            except FileExistsError:
                return False
            fsync(path.parent)
            return True

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        content = self.get(key)
        return content, _tag(content)

    def replace(self, key: str, content: bytes, tag: str) -> str | None:
        checked(key)
        with self._mapped(), self._lock() as lock:  # a file system has no conditional write
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if _tag(self.get(key)) != tag:
                    return None
            except KeyError:
                return None
            self.put(key, content)
            return _tag(content)

    def list(self, prefix: str) -> list[str]:
        with self._mapped():
            return sorted(key for key, _ in _files(self._path(prefix), prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        found = {}
        with self._mapped():
            for key, entry in _files(self._path(prefix), prefix):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # deleted since
                    found[key] = entry.stat(follow_symlinks=False).st_size
        return dict(sorted(found.items()))

    def below(self, prefix: str) -> set[str]:
        """The names of what lies directly below a prefix: much sooner known than all blobs."""
        with self._mapped(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return set(os.listdir(self._path(prefix)))
        return set()

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._mapped():
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty, or gone
                path.parent.rmdir()

    def size(self, key: str) -> int:
        with self._reading(key) as path:
            return path.stat().st_size

    def sha256(self, key: str) -> str:
        with self._reading(key) as path:
            return sha256_of(path)

    def put_file(self, key: str, path: Path) -> None:
        target = self._path(key)
        with self._mapped(), self._aside_file() as aside:
            shutil.copyfile(path, aside)
            fsync(aside)
            _make_folder(target.parent)
            aside.rename(target)
            fsync(target.parent)

    def get_file(self, key: str, path: Path) -> None:
        with self._mapped(), self._reading(key) as source:
            shutil.copyfile(source, path)

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        try:
            if not path.is_file():
                if path.exists():
                    raise InTheWay(key, "is a folder" if path.is_dir() else "is not a file")
                raise KeyError(key)
            yield path
        except OSError as error:
            # get_file copies inside this block, so the error may be about the file it writes.
            is_of_another = error.filename is not None and Path(os.fsdecode(error.filename)) != path
            if is_of_another or error.errno in OF_WRITING:
                raise
            if isinstance(error, FileNotFoundError | NotADirectoryError):  # deleted in between
                raise KeyError(key) from None
            raise Unreadable(key, f"cannot be read: {error.strerror or error}") from error

    def _lock(self) -> IO[str]:
        self._aside.mkdir(parents=True, exist_ok=True)
        return (self._aside / LOCK).open("w")

    @contextlib.contextmanager
    def _aside_file(self) -> Iterator[Path]:
        self._aside.mkdir(parents=True, exist_ok=True)
        path = self._aside / uuid.uuid4().hex
        path.touch(exist_ok=False)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _clear_abandoned(self) -> None:
        for path in self._aside.iterdir():
            # Missing: its writer has renamed it, or another process has cleared it.
            with contextlib.suppress(FileNotFoundError):
                if path.name != LOCK and time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                    path.unlink()

    @contextlib.contextmanager
    def _written_aside(self, content: bytes) -> Iterator[Path]:
        with self._aside_file() as aside:
            aside.write_bytes(content)
            fsync(aside)
            yield aside

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn what the file system refuses into an EnvironmentProblem with advice."""
        try:
            yield
        except OSError as error:
            where = error.filename or self._root
            left = f", {_free_mb(self._root):.1f} MB free" if error.errno in OF_ROOM else ""
            raise EnvironmentProblem(
                f"The store {self._root} cannot be used: {error.strerror} ({where}{left}). "
                "Make room there or make it writable, or give another --store."
            ) from error


def _free_mb(folder: Path) -> float:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return shutil.disk_usage(there).free / 1e6


def _at_once(path: str, flags: int) -> int:
    """Open a file, or a FIFO without waiting for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below a folder, with its key. A store has hundreds of thousands: no Path is made.

    Folders that are missing or have just gone hold nothing.
    """
    waiting = [(str(folder), prefix)]
    while waiting:
        place, key = waiting.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(place) as found:
            for entry in found:
                if entry.is_dir():
                    if not entry.is_symlink():
                        waiting.append((entry.path, f"{key}/{entry.name}"))
                else:
                    yield f"{key}/{entry.name}", entry


def _make_folder(path: Path) -> None:
    """Make the folder and those above it, each of which survives a crash."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync(path.parent)
