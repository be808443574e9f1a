"""A store in a folder: blobs are files, written aside, fsynced and renamed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import EnvironmentProblem
from orchestrator.store.base import Store, checked

ASIDE = ".aside"  # files on their way; below the root, so that renaming stays within one file system


class FolderStore(Store):
    """Blobs below `root`. Every process that opens it must see the same file system."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._aside = self._root / ASIDE
        self.uri = str(self._root)
        with self._told():
            self._aside.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._aside)
            os.close(descriptor)
            os.unlink(name)

    def get(self, key: str) -> bytes:
        with self._reading(key) as path:
            return path.read_bytes()

    def put(self, key: str, content: bytes) -> None:
        path = self._path(key)
        with self._told(), self._written_aside(content) as aside:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(path)
            _fsync(path.parent)

    def put_once(self, key: str, content: bytes) -> bool:
        path = self._path(key)
        with self._told(), self._written_aside(content) as aside:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(aside, path)
            except FileExistsError:
                return False
            _fsync(path.parent)
            return True

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        content = self.get(key)
        return content, _tag(content)

    def replace(self, key: str, content: bytes, tag: str) -> bool:
        checked(key)
        with self._told(), (self._aside / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if _tag(self.get(key)) != tag:
                    return False
            except KeyError:
                return False
            self.put(key, content)
            return True

    def list(self, prefix: str) -> list[str]:
        top = self._path(prefix)
        with self._told():
            return sorted(path.relative_to(self._root).as_posix() for path in top.rglob("*") if path.is_file())

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._told():
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty, or gone
                path.parent.rmdir()

    def size(self, key: str) -> int:
        with self._reading(key) as path:
            return path.stat().st_size

    def put_file(self, key: str, path: Path) -> None:
        target = self._path(key)
        with self._told(), self._aside_file() as aside:
            shutil.copyfile(path, aside)
            _fsync(aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(target)
            _fsync(target.parent)

    def get_file(self, key: str, path: Path) -> None:
        with self._reading(key) as source:
            shutil.copyfile(source, path)

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        if not path.is_file():
            raise KeyError(key)
        with self._told():
            try:
                yield path
            except FileNotFoundError:  # deleted in between
                raise KeyError(key) from None

    @contextlib.contextmanager
    def _aside_file(self) -> Iterator[Path]:
        descriptor, name = tempfile.mkstemp(dir=self._aside)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _written_aside(self, content: bytes) -> Iterator[Path]:
        with self._aside_file() as aside:
            aside.write_bytes(content)
            _fsync(aside)
            yield aside

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What the file system refuses, as a sentence: read-only, no rights, disk full, a file in the way."""
        try:
            yield
        except OSError as error:
            where = error.filename or self._root
            raise EnvironmentProblem(
                f"The store {self._root} cannot be used: {error.strerror} ({where}). "
                "Free or make writable what it names, or give another --store."
            ) from error


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
