"""Data sets from folders and S3 prefixes to where a rank can open them: the node's cache.

On S3 a set is a prefix with a `normsweep.json`, which `normsweep data check` writes: planning reads that and a listing, no image.
The first process of a node that needs the set fetches it, the others wait for it; what a killed one has fetched is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.objects import Changed, Listed, Prefix, is_s3
from trainers.checkpoint import sha256_of
from trainers.data.cache import Cache
from trainers.data.datasets import dataset
from trainers.data.embedded import embedded_names
from trainers.data.finder import is_image, is_junk, is_reduced
from trainers.data.given import with_given
from trainers.data.manifests import (
    MANIFEST,
    DatasetProblem,
    ImageFile,
    ImageSet,
    checked_manifest,
    find_set,
    is_group,
    manifest_text,
    named_roots,
    write_manifest,
)

TRIES = 2  # of an object that arrives with another checksum


class DataRoots:
    """Where data sets lie, first `given`, then what NORMSWEEP_DATA names: folders and S3 prefixes, searched in this order.

    Of a set on S3 there is, while this object lives, a local folder with nothing but its manifest.
    """

    def __init__(self, given: Sequence[str] = ()) -> None:
        self.given = tuple(map(_address, given))
        self.all = tuple(dict.fromkeys([*self.given, *map(_address, named_roots())]))
        self._stubs: tempfile.TemporaryDirectory[str] | None = None
        self._folders: dict[str, list[str]] = {}
        self._described: dict[Path, Prefix] = {}

    def find(self, name: str) -> ImageSet:
        """The set of this name. Raises DatasetProblem, EnvironmentProblem."""
        if name not in embedded_names():
            for root in filter(is_s3, self.all):
                self._describe(Prefix(root), name)
        try:
            return find_set(name, [self._folder(root) for root in self.all])
        except DatasetProblem as problem:
            raise DatasetProblem(self._addressed(str(problem))) from None

    def fetch(self, names: Sequence[str], cache: Cache, lr_scale: int | None = None) -> list[Path]:
        """Folders in which these sets can be found and opened, those on S3 fetched; for a task that is given its LR images,
        those of `lr_scale` as well. Raises as `find`, and CacheProblem.
        """
        if not any(map(is_s3, self.all)):
            return [Path(root) for root in self.all]
        sets = [self.find(name) for name in names]
        if lr_scale is not None:
            sets = [with_given(found, lr_scale) for found in sets]
        paths = [file.path for found in sets for file in found.all_files]
        used = [folder for folder in self._described if any(path.is_relative_to(folder) for path in paths)]
        roots = []
        for root in self.all:
            if is_s3(root):
                inside = [folder for folder in used if folder.is_relative_to(self._folder(root))]
                roots += [_fetched(self._described[folder], folder, frozenset(paths), cache) for folder in inside]
            else:
                roots.append(Path(root))
        return roots

    def _folder(self, root: str) -> Path:
        """A root as a folder: of an S3 prefix, where its manifests are put."""
        if not is_s3(root):
            return Path(root)
        if self._stubs is None:
            self._stubs = tempfile.TemporaryDirectory(prefix="normsweep-manifests-")
        return Path(self._stubs.name) / str(self.all.index(root))

    def _addressed(self, message: str) -> str:
        for root in filter(is_s3, self.all):
            message = message.replace(str(self._folder(root)), Prefix(root).uri)
        return message

    def _describe(self, root: Prefix, name: str) -> None:
        """Put the manifests of the set, of the sets of which it is made, and of what they are also called into the stub."""
        known, stub = dataset(name), self._folder(root.uri)
        for part in known.parts:
            self._describe(root, part)
        for alias in (name, *known.also_named):
            groups = self._below(root)
            places = [alias] if alias in groups else []
            places += [f"{group}/{alias}" for group in groups if is_group(group) and alias in self._below(root / group)]
            for place in places:
                folder = stub / place
                if folder not in self._described and (manifest := _manifest_of(root / place, alias)) is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / MANIFEST).write_text(manifest_text(alias, manifest, (root / place).uri))
                    self._described[folder] = root / place

    def _below(self, prefix: Prefix) -> list[str]:
        if prefix.uri not in self._folders:
            self._folders[prefix.uri] = prefix.folders()
        return self._folders[prefix.uri]


def _address(root: str) -> str:
    """In one form, whatever folder this process is in. Raises UserError."""
    return Prefix(root).uri if "://" in root else str(Path(root).absolute())


def read_manifest_at(prefix: Prefix, listed: Mapping[str, Listed]) -> Mapping[str, Mapping[str, Any]] | None:
    """What the manifest on S3 says of each image, by path; None where there is none. Raises DatasetProblem."""
    if MANIFEST not in listed:
        return None
    where = f"{prefix.uri}/{MANIFEST}"
    try:
        images: Mapping[str, Mapping[str, Any]] = checked_manifest(json.loads(prefix.get(MANIFEST)), where)["images"]
    except ValueError as error:
        problem = error if isinstance(error, DatasetProblem) else f"{where}: is no JSON ({error})"
        raise DatasetProblem(f"{problem}: remove it and run `normsweep data check` again") from None
    return images


def images_at(listed: Mapping[str, Listed]) -> dict[str, Listed]:
    """Of a listing, the images. Raises DatasetProblem for a key that is no path below a folder."""
    images = {key: item for key, item in listed.items() if is_image(key)}
    for key in images:
        if PurePosixPath(key).is_absolute() or ".." in PurePosixPath(key).parts:
            raise DatasetProblem(f"{key!r}: is no name of a file below a folder")
    return images


def fetch_listed(prefix: Prefix, name: str, images: Mapping[str, Listed], cache: Cache) -> Path:
    """A local folder with these objects as they are now, whatever a manifest says of them."""
    key = _key([(path, item.bytes, item.etag) for path, item in images.items()])

    def fetch(entry: Path) -> None:
        _download(prefix, entry / name, {path: _Wanted(item.bytes, item.etag, None) for path, item in images.items()})

    size = sum(item.bytes for item in images.values())
    return cache.entry(f"listed-{name}-{key}", lambda: size, fetch, resumable=True) / name


def _manifest_of(prefix: Prefix, name: str) -> Mapping[str, Mapping[str, Any]] | None:
    """What the manifest says, where it is still right by the listing; of reduced images, which few runs read, those that are
    not have a `problem` in their record. None where nothing, or only other sets, lie there.
    """
    listed = prefix.list()
    recorded, there = read_manifest_at(prefix, listed), images_at(listed)
    again = f"run `normsweep data check {name} {prefix.uri}`"
    if recorded is None:
        if there and not dataset(name).parts:
            raise DatasetProblem(
                f"data set {name!r}: {prefix.uri} holds {len(there)} images, but no {MANIFEST}: {again}"
            )
        return None
    records: dict[str, Mapping[str, Any]] = {}
    problems = []
    for path, record in recorded.items():
        if is_junk(path):  # of a manifest that an earlier version wrote
            continue
        now, problem = listed.get(path), None
        if now is None:
            problem = f"{prefix.uri}/{path}: is missing, but its {MANIFEST} names it"
        elif now.bytes != record["bytes"] or record.get("etag") not in (None, now.etag):
            problem = f"{prefix.uri}/{path}: is not the object that its {MANIFEST} names: {again}"
        if problem is not None and not is_reduced(path):
            problems.append(problem)
        records[path] = record if problem is None else {**record, "problem": problem}
    if problems:
        raise DatasetProblem(f"data set {name!r}:\n  " + "\n  ".join(problems))
    return records


def _fetched(prefix: Prefix, stub: Path, wanted: Container[Path], cache: Cache) -> Path:
    """A root with the set whose manifest is in `stub`: all its images, and of the reduced ones those that are `wanted`."""
    images: Mapping[str, Mapping[str, Any]] = json.loads((stub / MANIFEST).read_bytes())["images"]
    own = {path: record for path, record in images.items() if not is_reduced(path)}
    root = _entry(prefix, stub.name, own, cache, None)
    reduced = {path: record for path, record in images.items() if path not in own and stub / path in wanted}
    return _entry(prefix, stub.name, own | reduced, cache, root) if reduced else root


def _entry(
    prefix: Prefix, name: str, images: Mapping[str, Mapping[str, Any]], cache: Cache, beside: Path | None
) -> Path:
    """The cache's entry with these images; those that the entry `beside` has are linked, not fetched again."""

    def fetch(entry: Path) -> None:
        folder = entry / name
        if beside is not None:
            _link(beside / name, folder, images)
        _download(prefix, folder, {path: _Wanted.of(record) for path, record in images.items()})
        files = [
            ImageFile(path, folder / path, record["sha256"], tuple(record["px"]) if "px" in record else None)
            for path, record in images.items()
        ]
        write_manifest(name, folder, files)

    key = _key([(path, record["sha256"]) for path, record in images.items()])
    size = sum(record["bytes"] for record in images.values())
    return cache.entry(f"set-{name}-{key}", lambda: size, fetch, resumable=True)


def _link(source: Path, folder: Path, images: Iterable[str]) -> None:
    """Make the images that lie in `source` appear in `folder` too, on the same disk; where it knows no links, none."""
    for path in images:
        if (source / path).is_file() and not (folder / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                os.link(source / path, folder / path)


@dataclass(frozen=True)
class _Wanted:
    """An object to fetch: what a listing said of it, or its manifest, which also knows its checksum."""

    bytes: int
    etag: str | None
    sha256: str | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> _Wanted:
        return cls(record["bytes"], record.get("etag"), record["sha256"])

    def is_in(self, path: Path) -> bool:
        """Whether the whole object is in this file."""
        return path.is_file() and path.stat().st_size == self.bytes and self.sha256 in (None, sha256_of(path))

    def listed(self) -> Listed | None:
        return Listed(self.bytes, self.etag) if self.etag else None


def _download(prefix: Prefix, folder: Path, wanted: Mapping[str, _Wanted]) -> None:
    """Fetch objects, by path; those that are here stay. Raises DatasetProblem for what is another object than wanted."""
    folder.mkdir(exist_ok=True)
    clear_others(folder, wanted)
    missing = [path for path, item in wanted.items() if not item.is_in(folder / path)]
    for path in missing:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        try:
            arrived = prefix.download({path: (folder / path, wanted[path].listed()) for path in missing})
            whole = {path for path in arrived if wanted[path].is_in(folder / path)}
            missing = [path for path in missing if path not in whole]
        except Changed as changed:
            raise DatasetProblem(f"{changed}: run `normsweep data check` again") from changed
        except KeyError as gone:
            raise DatasetProblem(f"{gone.args[0]}: is gone since it was listed") from gone
    if missing:
        for path in missing:
            (folder / path).unlink(missing_ok=True)
        wrong = "arrives with another checksum than its manifest's: run `normsweep data check` again"
        raise DatasetProblem("\n  ".join(f"{prefix.uri}/{path}: {wrong}" for path in missing))


def clear_others(folder: Path, wanted: Container[str]) -> None:
    """Delete what a killed transfer has left: files not `wanted`, by path below the folder, and folders that are empty."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what a folder holds comes before it
        if path.is_symlink() or not path.is_dir():
            if path.relative_to(folder).as_posix() not in wanted:
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()


def _key(records: Sequence[tuple[str | int, ...]]) -> str:
    return hashlib.sha256(json.dumps(sorted(records)).encode()).hexdigest()[:16]
