"""Copies of a data set that are in order: brought to a folder or to an S3 prefix, whole or not at all, with their manifest."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.objects import Listed, Prefix
from orchestrator.staging import clear_others, read_manifest_at
from trainers.checkpoint import sha256_of
from trainers.data.cache import fsync_tree
from trainers.data.finder import is_reduced
from trainers.data.manifests import (
    MANIFEST,
    DatasetProblem,
    ImageFile,
    ImageSet,
    manifest_text,
    open_set,
    read_manifest,
    write_manifest,
)

SHA256 = "sha256"  # how an object's note of its content is called


@dataclass(frozen=True)
class Copy:
    """A copy of the set `name` that is in order: at `where`, and to be read in the folder of `found`."""

    name: str
    where: str
    found: ImageSet
    reduced: tuple[ImageFile, ...]  # beside them: LR_bicubic/X2/...
    listed: Mapping[str, Listed]  # what lies below an S3 prefix

    @property
    def files(self) -> dict[str, ImageFile]:
        """The set's own images, by path below its folder."""
        return {file.path.relative_to(self.found.folder).as_posix(): file for file in self.found.all_files}

    @property
    def all_files(self) -> dict[str, ImageFile]:
        """Reduced images too."""
        return self.files | {file.name: file for file in self.reduced}

    @property
    def reduced_folders(self) -> list[str]:
        return list(dict.fromkeys(file.name.rpartition("/")[0] for file in self.reduced))


def keep_checksums(copy: Copy) -> None:
    """Write the manifest of a copy beside its images. Raises OSError, EnvironmentProblem."""
    if copy.listed:
        records = {path: _record(file) for path, file in copy.all_files.items()}
        _write_at(Prefix(copy.where), copy.name, records, copy.listed)
    else:
        folder = copy.found.folder  # beside which RCAN's reduced images lie: a manifest is of its own folder
        write_manifest(copy.name, folder, [file for path, file in copy.all_files.items() if file.path == folder / path])


def to_folder(copy: Copy, images: Mapping[str, ImageFile], to: str) -> str:
    """Bring `images`, by path, to TO/<name>: aside, renamed when the copy is whole. Says what was done.

    To a copy that is there already, reduced images are added.
    """
    root = Path(to)
    root.mkdir(parents=True, exist_ok=True)
    target, aside = root / copy.name, root / f".{copy.name}.part"
    with (root / f".{copy.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process that stages the same set is waited for
        if not target.exists():
            clear_others(aside, images)
            _copy(images, aside)
            write_manifest(copy.name, aside, [replace(file, path=aside / path) for path, file in images.items()])
            fsync_tree(aside)
            aside.rename(target)
            return f"now in {target}"
        reduced = {path: file for path, file in images.items() if path not in copy.files}
        same = all(sha256_of(target / path) == f.sha256 for path, f in reduced.items() if (target / path).is_file())
        if not same or open_set(copy.name, target).sha256 != copy.found.sha256:
            raise UserError(f"{target}: is there, and is another copy: remove it, or stage elsewhere")
        recorded = (read_manifest(target) or {"images": {}})["images"]
        brought = _copy(reduced, target)
        if not brought and recorded.keys() >= images.keys():
            return f"{target} has them already"
        others = {path: record for path, record in _others(recorded, images).items() if (target / path).is_file()}
        kept = {
            path: ImageFile(path, target / path, r["sha256"], tuple(r["px"]) if "px" in r else None)
            for path, r in others.items()
        }
        files = [replace(file, path=target / path) for path, file in {**images, **kept}.items()]
        write_manifest(copy.name, target, files)
        fsync_tree(target)
    return f"now in {target}, {brought} of them copied"


def to_prefix(copy: Copy, images: Mapping[str, ImageFile], to: str) -> str:
    """Upload of `images`, by path, what is not below TO/<name> yet; the manifest comes last. Says what was done."""
    prefix = Prefix(to) / copy.name
    listed = prefix.list()
    recorded = read_manifest_at(prefix, listed)
    if recorded is not None and not _same(copy, images, recorded):
        raise UserError(f"{prefix.uri}: is there, and is another copy: remove it, or stage elsewhere")
    missing = {path: file for path, file in images.items() if not _is_at(prefix, path, file, listed.get(path))}
    if recorded is not None and recorded.keys() >= images.keys() and not missing:
        return f"{prefix.uri} has them already"
    notes = {path: {SHA256: file.sha256} for path, file in missing.items()}
    for _ in prefix.upload({path: file.path for path, file in missing.items()}, notes):
        pass
    listed = prefix.list()
    others = {path: record for path, record in _others(recorded or {}, images).items() if path in listed}
    _write_at(prefix, copy.name, {path: _record(file) for path, file in images.items()} | others, listed)
    return f"now in {prefix.uri}, {len(missing)} of them uploaded"


def _copy(images: Mapping[str, ImageFile], folder: Path) -> int:
    """Copy the images that are not in the folder yet; how many."""
    brought = 0
    for path, file in images.items():
        there = folder / path
        if there.is_file() and sha256_of(there) == file.sha256:
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        part = there.with_name(f"{there.name}.part")  # no image to anyone until it is renamed
        shutil.copyfile(file.path, part)
        if sha256_of(part) != file.sha256:
            part.unlink()
            raise DatasetProblem(f"{file.path}: has changed while it was copied")
        part.rename(there)
        brought += 1
    return brought


def _same(copy: Copy, images: Mapping[str, ImageFile], recorded: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a manifest is of this copy. Reduced images may be missing on either side, but not differ."""
    then = {path: record["sha256"] for path, record in recorded.items()}
    own = {path: sha256 for path, sha256 in then.items() if not is_reduced(path)}
    return own == {path: file.sha256 for path, file in copy.files.items()} and all(
        then.get(path) in (None, file.sha256) for path, file in images.items()
    )


def _others(recorded: Mapping[str, Mapping[str, Any]], images: Container[str]) -> dict[str, Mapping[str, Any]]:
    """What a manifest says of reduced images that are not among `images`: they stay beside those that are brought."""
    return {path: record for path, record in recorded.items() if path not in images and is_reduced(path)}


def _record(file: ImageFile) -> dict[str, Any]:
    """What a manifest on S3 says of an image, beside what a listing does."""
    return {"sha256": file.sha256, **({"px": file.px} if file.px else {})}


def _write_at(
    prefix: Prefix, name: str, records: Mapping[str, Mapping[str, Any]], listed: Mapping[str, Listed]
) -> None:
    """Write the manifest of what was listed below the prefix."""
    images = {
        path: {**record, "bytes": listed[path].bytes, "etag": listed[path].etag} for path, record in records.items()
    }
    prefix.put(MANIFEST, manifest_text(name, images).encode())


def _is_at(prefix: Prefix, path: str, file: ImageFile, listed: Listed | None) -> bool:
    """Whether an earlier try has uploaded this very file."""
    if listed is None or listed.bytes != file.path.stat().st_size:
        return False
    return prefix.head(path).about.get(SHA256) == file.sha256
