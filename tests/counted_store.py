"""A store that counts its requests and can be made to fail at any of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from orchestrator.store.base import Store


class CountedStore(Store):
    """`asked` counts each (request, key). `before` is called before each request, and may raise."""

    def __init__(self, inner: Store, before: Callable[[str, str], None] | None = None) -> None:
        self._inner = inner
        self._before = before or (lambda request, key: None)
        self._lock = threading.Lock()
        self.uri = inner.uri
        self.asked: Counter[tuple[str, str]] = Counter()

    def _ask(self, request: str, key: str) -> Store:
        with self._lock:
            self._before(request, key)
            self.asked[request, key] += 1
        return self._inner

    def requests(self) -> dict[str, int]:
        """The number of requests of each kind since the last call."""
        counted: Counter[str] = Counter()
        for (request, _), times in self.asked.items():
            counted[request] += times
        self.asked.clear()
        return dict(counted)

    def get(self, key: str) -> bytes:
        return self._ask("get", key).get(key)

    def put(self, key: str, content: bytes) -> None:
        self._ask("put", key).put(key, content)

    def put_once(self, key: str, content: bytes) -> bool:
        return self._ask("put", key).put_once(key, content)

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        return self._ask("get", key).get_tagged(key)

    def replace(self, key: str, content: bytes, tag: str) -> str | None:
        return self._ask("put", key).replace(key, content, tag)

    def list(self, prefix: str) -> list[str]:
        return self._ask("list", prefix).list(prefix)

    def sizes(self, prefix: str) -> dict[str, int]:
        return self._ask("list", prefix).sizes(prefix)

    def delete(self, key: str) -> None:
        self._ask("delete", key).delete(key)

    def size(self, key: str) -> int:
        return self._ask("size", key).size(key)

    def sha256(self, key: str) -> str:
        return self._ask("get", key).sha256(key)

    def put_file(self, key: str, path: Path) -> None:
        self._ask("put", key).put_file(key, path)

    def get_file(self, key: str, path: Path) -> None:
        self._ask("get", key).get_file(key, path)
