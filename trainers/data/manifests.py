"""The images that make up a data set, by names and checksums, and the manifest that records them.

A folder's checksums are in its `normsweep.json` once `normsweep data check` has written it. A file
whose size and modification time are still the recorded ones is not read again. The same file below
an S3 prefix says what the prefix holds. Nothing here decodes an image, so planning can use it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from trainers.data.templates import WHOLE
from trainers.durable import write_aside
from trainers.errors import UserError

MANIFEST = "normsweep.json"
Px = tuple[int, int]  # width, height


class DatasetProblem(UserError, ValueError):
    """A data set is missing or not what it should be; the message names every file concerned."""

    kind = "data"


@dataclass(frozen=True)
class ImageFile:
    """One image file of a set.

    `name` identifies the image within its set, wherever `path` is. `sha256` is of the file's bytes.
    `px` is known only where a check has recorded it.
    """

    name: str
    path: Path
    sha256: str
    px: Px | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ImageSet:
    """A data set before decoding.

    In a set of pairs, `lq_files` are the partners of `files` in the same order; an image's sides
    are those of its partner times `lq_scale`. `parts` are the sets that this one is made of.

    A set that holds its images once for each scale has them in `by_scale`, and its `files` are then
    those of the smallest scale. `notes` tell the user what is in its folder but not in the set.
    """

    name: str
    folder: Path
    files: tuple[ImageFile, ...]
    lq_files: tuple[ImageFile, ...] = ()
    lq_scale: int = 1
    parts: tuple[ImageSet, ...] = ()
    by_scale: Mapping[int, tuple[ImageFile, ...]] = field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def at_scale(self, scale: int) -> ImageSet:
        """The set as a task of this scale uses it; 1 is a task that keeps an image's size.

        Raises DatasetProblem if the set only has images cropped for other scales.
        """
        if self.parts:
            parts = tuple(part.at_scale(scale) for part in self.parts)
            return replace(self, parts=parts, files=in_order_of_names(parts))
        if not self.by_scale:
            return self
        files = self.by_scale.get(scale, self.by_scale.get(WHOLE))
        if files is None:
            there = ", ".join(f"x{known}" for known in sorted(self.by_scale))
            wanted = f"scale {scale}" if scale > 1 else "a task that keeps an image's size"
            raise DatasetProblem(
                f"data set {self.name!r}: {self.folder} holds its images cropped for {there} only, "
                f"and {wanted} needs others. Put the whole images into HR/."
            )
        return replace(self, files=files, by_scale={})

    @property
    def all_files(self) -> tuple[ImageFile, ...]:
        """The files of every scale and of both sides."""
        scales = [files for files in self.by_scale.values() if files != self.files]
        return (*self.files, *(file for files in scales for file in files), *self.lq_files)

    @property
    def sha256(self) -> str:
        """The checksum of the manifest: of the files' names and checksums."""
        sides = [
            [(file.name, file.sha256) for file in side] for side in (self.files, self.lq_files)
        ]
        # A set without pairs hashes as a plain list: the ids of trials depend on this form.
        return hashlib.sha256(
            json.dumps(sides if sides[1] else sides[0], separators=(",", ":")).encode()
        ).hexdigest()


def in_order_of_names(parts: Sequence[ImageSet]) -> tuple[ImageFile, ...]:
    """The files of several sets, sorted by name."""
    return tuple(
        sorted((file for part in parts for file in part.files), key=lambda file: file.name)
    )


def write_manifest(name: str, folder: Path, files: Sequence[ImageFile]) -> None:
    """Record the checksums of `files` in a manifest in their folder, aside and renamed."""
    images = {}
    for file in files:
        stat = file.path.stat()
        record = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": file.sha256}
        images[file.path.relative_to(folder).as_posix()] = record | (
            {"px": file.px} if file.px else {}
        )
    write_aside(folder / MANIFEST, manifest_text(name, images).encode())


def manifest_text(
    name: str, images: Mapping[str, Mapping[str, Any]], source: str | None = None
) -> str:
    """The content of a manifest: the bytes, sha256 and size of every image, by path.

    `source` says where the images are if they are not beside the manifest.
    """
    return (
        json.dumps({"version": 1, "name": name, "source": source, "images": images}, indent=1)
        + "\n"
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The content of the folder's `normsweep.json`, or None if it has none.

    Raises DatasetProblem for a manifest that is damaged.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DatasetProblem(
            f"{path}: cannot be read ({error}). Remove it and run `normsweep data check` again."
        ) from None
    return checked_manifest(content, str(path))


def checked_manifest(content: Any, where: str) -> dict[str, Any]:
    """Return `content` if it has the form of a manifest and names nothing outside its folder.

    Raises DatasetProblem otherwise.
    """
    images = (
        content.get("images") if isinstance(content, dict) and content.get("version") == 1 else None
    )
    if not isinstance(images, dict) or not all(map(_is_record, images.values())):
        raise DatasetProblem(f"{where}: not a manifest of a data set (version 1)")
    for path in map(PurePosixPath, images):
        if path.is_absolute() or ".." in path.parts:
            raise DatasetProblem(f"{where}: names {str(path)!r}, which is outside its folder")
    return dict(content)


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("bytes"), int):
        return False
    px = record.get("px", [1, 1])  # not in manifests of earlier versions
    sized = (
        isinstance(px, list) and len(px) == 2 and all(type(side) is int and side > 0 for side in px)
    )
    return sized and isinstance(record.get("sha256"), str)
