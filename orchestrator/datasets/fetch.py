"""Fetching images from an S3 prefix to a node's cache, as a manifest or a listing names them.

The first process on a node that needs a set fetches it, and the others wait. What a killed process
has fetched is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.objects import Changed, Listed, Prefix
from trainers.data.cache import Cache
from trainers.data.finder import is_reduced
from trainers.data.manifests import MANIFEST, DatasetProblem, ImageFile, write_manifest
from trainers.durable import sha256_of

TRIES = 2  # to fetch an object, if it arrives with a wrong checksum


def fetch_listed(prefix: Prefix, name: str, images: Mapping[str, Listed], cache: Cache) -> Path:
    """Fetch these objects as they are now, whatever a manifest says, and return their folder."""
    key = _key([(path, item.bytes, item.etag) for path, item in images.items()])

    def fetch(entry: Path) -> None:
        _download(
            prefix,
            entry / name,
            {path: _Wanted(item.bytes, item.etag, None) for path, item in images.items()},
        )

    size = sum(item.bytes for item in images.values())
    return cache.entry(f"listed-{name}-{key}", lambda: size, fetch, resumable=True) / name


def fetch_set(prefix: Prefix, stub: Path, wanted: Container[Path], cache: Cache) -> Path:
    """Fetch the set whose manifest is in `stub`, and return a root with it.

    This includes all images of the set, but only those reduced images that are `wanted`.
    """
    images: Mapping[str, Mapping[str, Any]] = json.loads((stub / MANIFEST).read_bytes())["images"]
    own = {path: record for path, record in images.items() if not is_reduced(path)}
    root = _entry(prefix, stub.name, own, cache, None)
    reduced = {
        path: record for path, record in images.items() if path not in own and stub / path in wanted
    }
    # A second entry, linked to the first: the set's own images are fetched once for all scales.
    return _entry(prefix, stub.name, own | reduced, cache, root) if reduced else root


def _entry(
    prefix: Prefix,
    name: str,
    images: Mapping[str, Mapping[str, Any]],
    cache: Cache,
    beside: Path | None,
) -> Path:
    """The cache entry with these images; those in the entry `beside` are linked, not fetched."""

    def fetch(entry: Path) -> None:
        folder = entry / name
        if beside is not None:
            _link(beside / name, folder, images)
        _download(prefix, folder, {path: _Wanted.of(record) for path, record in images.items()})
        files = [
            ImageFile(
                path,
                folder / path,
                record["sha256"],
                tuple(record["px"]) if "px" in record else None,
            )
            for path, record in images.items()
        ]
        write_manifest(name, folder, files)

    key = _key([(path, record["sha256"]) for path, record in images.items()])
    size = sum(record["bytes"] for record in images.values())
    return cache.entry(f"set-{name}-{key}", lambda: size, fetch, resumable=True)


def _link(source: Path, folder: Path, images: Iterable[str]) -> None:
    """Link the images that are in `source` into `folder`; on disks without links, do nothing."""
    for path in images:
        if (source / path).is_file() and not (folder / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                os.link(source / path, folder / path)


@dataclass(frozen=True)
class _Wanted:
    """An object to fetch, as described by a listing, or by a manifest, which also has checksums."""

    bytes: int
    etag: str | None
    sha256: str | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> _Wanted:
        return cls(record["bytes"], record.get("etag"), record["sha256"])

    def is_in(self, path: Path) -> bool:
        """Return whether this file is the whole object."""
        return (
            path.is_file()
            and path.stat().st_size == self.bytes
            and self.sha256 in (None, sha256_of(path))
        )

    def listed(self) -> Listed | None:
        return Listed(self.bytes, self.etag) if self.etag else None


def _download(prefix: Prefix, folder: Path, wanted: Mapping[str, _Wanted]) -> None:
    """Fetch objects to their paths below `folder`, unless they are there already.

    Raises DatasetProblem for an object that is missing or not the one that is wanted.
    """
    folder.mkdir(exist_ok=True)
    clear_others(folder, wanted)
    missing = [path for path, item in wanted.items() if not item.is_in(folder / path)]
    for path in missing:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        try:
            arrived = prefix.download(
                {path: (folder / path, wanted[path].listed()) for path in missing}
            )
            whole = {path for path in arrived if wanted[path].is_in(folder / path)}
            missing = [path for path in missing if path not in whole]
        except Changed as changed:
            raise DatasetProblem(f"{changed}: run `normsweep data check` again") from changed
        except KeyError as gone:
            raise DatasetProblem(f"{gone.args[0]}: has disappeared since it was listed") from gone
    if missing:
        for path in missing:
            (folder / path).unlink(missing_ok=True)
        wrong = (
            "arrives with a checksum that is not its manifest's: run `normsweep data check` again"
        )
        raise DatasetProblem("\n  ".join(f"{prefix.uri}/{path}: {wrong}" for path in missing))


def clear_others(folder: Path, wanted: Container[str]) -> None:
    """Delete what a killed transfer has left: empty folders, and files not at a `wanted` path."""
    for path in sorted(folder.rglob("*"), reverse=True):  # the content of a folder comes first
        if path.is_symlink() or not path.is_dir():
            if path.relative_to(folder).as_posix() not in wanted:
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()


def _key(records: Sequence[tuple[str | int, ...]]) -> str:
    return hashlib.sha256(json.dumps(sorted(records)).encode()).hexdigest()[:16]
