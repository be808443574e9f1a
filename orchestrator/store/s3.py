"""A store below an S3 prefix: an object for each blob, conditional writes for exclusive ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

from orchestrator.errors import EnvironmentProblem
from orchestrator.objects import Prefix
from orchestrator.store.base import Store, checked
from trainers.durable import sha256_of

SHA256 = "sha256"
PROBE = "conditional-replaces-hold"
NO_TAG = "0" * 32  # the tag of no blob


class S3Store(Store):
    """The store below `s3://bucket/prefix`.

    Opened `to_write`, it also raises EnvironmentProblem if the server ignores conditional writes.
    """

    def __init__(self, uri: str, *, to_write: bool = True) -> None:
        self._prefix = Prefix(uri)
        self.uri = self._prefix.uri
        if to_write and self.put_once(PROBE, b""):  # a new store, or a server that ignores this
            self._refuse_unconditional()

    def _refuse_unconditional(self) -> None:
        """Raise EnvironmentProblem if the server ignores a condition, or does not know it."""
        ignored = "If-None-Match" if self.put_once(PROBE, b"") else ""
        try:
            if not ignored and self.replace(PROBE, b"", NO_TAG) is not None:
                ignored = "If-Match"
        except EnvironmentProblem:
            self.delete(PROBE)  # so that whoever comes next tries again
            raise
        if ignored:
            self.delete(PROBE)
            raise EnvironmentProblem(
                f"--store {self.uri}: this server ignores conditional writes ({ignored}), "
                "without which two runs would take the same trial. Upgrade it, or use another one."
            )

    def get(self, key: str) -> bytes:
        return self._prefix.get(checked(key))

    def put(self, key: str, content: bytes) -> None:
        self._prefix.put(checked(key), content)

    def put_once(self, key: str, content: bytes) -> bool:
        return self._prefix.put_if(checked(key), content, None) is not None

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        return self._prefix.get_tagged(checked(key))

    def replace(self, key: str, content: bytes, tag: str) -> str | None:
        return self._prefix.put_if(checked(key), content, tag)

    def list(self, prefix: str) -> list[str]:
        return list(self._prefix.list(f"{checked(prefix)}/"))

    def sizes(self, prefix: str) -> dict[str, int]:
        found = self._prefix.list(f"{checked(prefix)}/")
        return {key: item.bytes for key, item in found.items()}

    def delete(self, key: str) -> None:
        self._prefix.delete(checked(key))

    def size(self, key: str) -> int:
        return self._prefix.head(checked(key)).bytes

    def sha256(self, key: str) -> str:
        # put_file notes it; what `put` wrote is small enough to be read.
        noted = self._prefix.head(checked(key)).about.get(SHA256)
        return noted or hashlib.sha256(self.get(key)).hexdigest()

    def put_file(self, key: str, path: Path) -> None:
        notes = {SHA256: sha256_of(path)}
        for _ in self._prefix.upload({checked(key): path}, {key: notes}):
            pass

    def get_file(self, key: str, path: Path) -> None:
        if not list(self._prefix.download({checked(key): (path, None)})):
            raise EnvironmentProblem(f"{self.uri}/{key}: arrived with a wrong checksum")
