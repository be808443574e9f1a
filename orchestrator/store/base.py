"""The store's port: named blobs, with no more operations than S3 has."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path

from orchestrator.errors import EnvironmentProblem

KEY = re.compile(r"[A-Za-z0-9_=][A-Za-z0-9_.=-]*(/[A-Za-z0-9_=][A-Za-z0-9_.=-]*)*")


def checked(key: str) -> str:
    """The key itself, if it is valid.

    Parts are made of letters, digits and `_ . = -`, are joined by `/`, and begin with neither a dot
    nor a hyphen. Raises ValueError for anything else.
    """
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a key of a store")
    return key


class Unreadable(EnvironmentProblem):
    """One blob cannot be read though the store can: rights are missing, or its disk is failing.

    `key` and `why` together read as a sentence.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key, why)
        self.key = key
        self.why = why

    def __str__(self) -> str:
        return f"{self.key} {self.why}"


class InTheWay(Unreadable, KeyError):
    """No blob is there, but something else is, such as a folder."""


class Store(ABC):
    """Blobs by key, shared by everyone who opens the same address.

    Promises, checked by tests/contract/test_store.py:

    - A reader sees a blob whole or not at all, whatever happens to the writer.
    - A blob survives a crash once `put` has returned.
    - `put_once` succeeds for exactly one of any number of callers.
    - `replace` succeeds only if the blob still has the tag that `get_tagged` or `replace` gave, so
      of any number of callers with the same tag exactly one succeeds.
    - `list` gives the keys below a prefix in lexical order, and never a half-written blob.
    - Deleting a blob that is not there is not an error.
    - Keys are checked before anything is touched.
    - Reading creates nothing, even if the store is missing or may not be written.

    Raises KeyError for a blob that is not there, Unreadable for one that cannot be read,
    EnvironmentProblem if the service fails.
    """

    uri: str

    @abstractmethod
    def get(self, key: str) -> bytes: ...

    @abstractmethod
    def put(self, key: str, content: bytes) -> None: ...

    @abstractmethod
    def put_once(self, key: str, content: bytes) -> bool:
        """Make the blob unless it exists already; True if this call made it."""

    @abstractmethod
    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """The content and a tag that changes with it."""

    @abstractmethod
    def replace(self, key: str, content: bytes, tag: str) -> str | None:
        """Replace the blob if it still has the tag; its new tag, or None if it was left alone."""

    @abstractmethod
    def list(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix` followed by `/`."""

    @abstractmethod
    def sizes(self, prefix: str) -> dict[str, int]:
        """The keys that `list` gives, in the same order, each with its blob's size in bytes."""

    @abstractmethod
    def delete(self, key: str) -> None: ...

    @abstractmethod
    def size(self, key: str) -> int:
        """The blob's size in bytes."""

    @abstractmethod
    def sha256(self, key: str) -> str:
        """The content's SHA-256, in hex.

        A service that keeps content intact by itself may give the checksum noted at writing.
        """

    @abstractmethod
    def put_file(self, key: str, path: Path) -> None:
        """Store a local file's content, however large."""

    @abstractmethod
    def get_file(self, key: str, path: Path) -> None:
        """Write the blob to a local file."""
