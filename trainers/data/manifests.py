"""Which images a data set is: names and checksums. Pure: decodes no image, so planning can ask.

The embedded sets are photographs inside the installed scikit-image wheel, listed in `embedded.json` beside this file and
split by name. Any other name is a folder ROOT/<name> or ROOT/*/<name>, laid out as trainers.data.datasets says.

A folder's checksums are in its `normsweep.json` once `normsweep data check` has written it; a file that is still as large
and as old as there is not read again. The same file below an S3 prefix says what the prefix holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from trainers.data.datasets import DATASETS, Dataset, dataset, meant
from trainers.data.embedded import embedded_sets, photographs
from trainers.data.finder import (
    Arrangement,
    Reduced,
    arrange,
    by_folder,
    holds_itself,
    is_image,
    left_out,
    of_like_names,
)
from trainers.data.folder import Walked, walk
from trainers.data.places import looked_for, places_in
from trainers.data.templates import WHOLE, order_of
from trainers.durable import write_aside
from trainers.errors import UserError
from trainers.spec import SET_NAME

ROOTS_VARIABLE = "NORMSWEEP_DATA"
MANIFEST = "normsweep.json"
READERS = 8  # threads that read files
Px = tuple[int, int]  # width, height


class DatasetProblem(UserError, ValueError):
    """A data set that is missing or not what it should be; the message names every file it is about."""

    kind = "data"


@dataclass(frozen=True)
class ImageFile:
    """`name` is what identifies the image within its set, wherever `path` lies; `sha256` is of the file's bytes.

    `px` is known where a check has recorded it.
    """

    name: str
    path: Path
    sha256: str
    px: Px | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ImageSet:
    """A data set before decoding. `lq_files` are the partners of `files` in the same order, where the set has pairs; an
    image's sides are those of its partner times `lq_scale`. `parts` are the sets of which it is made.

    A set that holds its images once for each scale has them in `by_scale`; its `files` are then those of the smallest.
    `notes` say what lies in its folder and is not of the set.
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
        """The set as a task of this scale takes it; 1 is a task that keeps an image's size. Raises DatasetProblem."""
        if self.parts:
            parts = tuple(part.at_scale(scale) for part in self.parts)
            return replace(self, parts=parts, files=_in_order_of_names(parts))
        if not self.by_scale:
            return self
        files = self.by_scale.get(scale, self.by_scale.get(WHOLE))
        if files is None:
            there = ", ".join(f"x{known}" for known in sorted(self.by_scale))
            wanted = f"scale {scale}" if scale > 1 else "a task that keeps an image's size"
            raise DatasetProblem(
                f"data set {self.name!r}: {self.folder} holds its images cropped for {there} only, and {wanted} needs others: "
                "put the whole images into HR/"
            )
        return replace(self, files=files, by_scale={})

    @property
    def all_files(self) -> tuple[ImageFile, ...]:
        """Of every scale, and of both sides."""
        scales = [files for files in self.by_scale.values() if files != self.files]
        return (*self.files, *(file for files in scales for file in files), *self.lq_files)

    @property
    def sha256(self) -> str:
        """Of the manifest: the files' names and checksums."""
        sides = [
            [(file.name, file.sha256) for file in side] for side in (self.files, self.lq_files)
        ]
        return hashlib.sha256(
            json.dumps(sides if sides[1] else sides[0], separators=(",", ":")).encode()
        ).hexdigest()


def find_set(name: str, roots: Sequence[Path] = ()) -> ImageSet:
    """The set of this name, embedded or under one of `roots` (then NORMSWEEP_DATA). Raises DatasetProblem."""
    check_name(name)
    embedded = embedded_sets()
    if name in embedded:
        folder = photographs()
        if folder is None:
            raise DatasetProblem(
                "the embedded photographs lie in scikit-image, which is not installed: pip install scikit-image"
            )
        files = (
            ImageFile(file, folder / file, sha256)
            for file, sha256 in sorted(embedded[name].items())
        )
        return ImageSet(name, folder, tuple(files))
    searched = list(
        dict.fromkeys([*roots, *(Path(root) for root in named_roots() if "://" not in root)])
    )
    found = _find(dataset(name), name, searched)
    if found is not None:
        return found
    looked = (
        ", ".join(looked_for(name, root) for root in searched)
        or f"nowhere: give --data ROOT or {ROOTS_VARIABLE}"
    )
    known = DATASETS.get(name)
    about = f" {name}: {known.about}; to be had at {known.page}." if known else ""
    raise DatasetProblem(
        f"no data set {name!r}.{meant(name)} Embedded: {', '.join(embedded)}. Looked in: {looked}.{about}"
    )


def check_name(name: str) -> None:
    """Raises DatasetProblem for what can be no name of a set, before it becomes a path or a key."""
    if not re.fullmatch(SET_NAME, name):
        raise DatasetProblem(f"{name!r} is no name of a data set: letters, digits and . _ - are")


def named_roots() -> list[str]:
    """The roots that NORMSWEEP_DATA names: folders, and S3 prefixes, which only the orchestrator can fetch from."""
    return [
        root for root in re.split(f"{os.pathsep}(?!//)", os.environ.get(ROOTS_VARIABLE, "")) if root
    ]


def open_set(name: str, folder: Path) -> ImageSet:
    """The set `name` whose folder this is. Raises DatasetProblem."""
    found = _in_folder(dataset(name), name, folder) if folder.is_dir() else None
    if found is None:
        raise DatasetProblem(f"data set {name!r}: {folder} is no folder that holds it")
    return found


def look_into(name: str, folder: Path) -> tuple[ImageSet, list[str]]:
    """The images of `name` in its folder, and what is wrong with them as far as names and checksums tell."""
    if not folder.is_dir():
        return ImageSet(name, folder, ()), [f"{folder}: not a folder"]
    return _read(dataset(name), name, SetFolder(folder))


def write_manifest(name: str, folder: Path, files: Sequence[ImageFile]) -> None:
    """Keep the checksums of `files` in their folder, aside and renamed."""
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
    """A manifest's content: by path, the bytes, sha256 and size of every image; `source`, if they lie elsewhere, says where."""
    return (
        json.dumps({"version": 1, "name": name, "source": source, "images": images}, indent=1)
        + "\n"
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `normsweep.json` says, or None where there is none. Raises DatasetProblem for one that is damaged."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DatasetProblem(
            f"{path}: cannot be read ({error}): remove it and run `normsweep data check` again"
        ) from None
    return checked_manifest(content, str(path))


def checked_manifest(content: Any, where: str) -> dict[str, Any]:
    """`content`, where it has the form of a manifest and names nothing outside its folder. Raises DatasetProblem."""
    images = (
        content.get("images") if isinstance(content, dict) and content.get("version") == 1 else None
    )
    if not isinstance(images, dict) or not all(map(_is_record, images.values())):
        raise DatasetProblem(f"{where}: is no manifest of a data set (version 1)")
    for path in map(PurePosixPath, images):
        if path.is_absolute() or ".." in path.parts:
            raise DatasetProblem(f"{where}: names {str(path)!r}, which lies outside its folder")
    return dict(content)


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("bytes"), int):
        return False
    px = record.get("px", [1, 1])  # not in manifests of earlier versions
    sized = (
        isinstance(px, list) and len(px) == 2 and all(type(side) is int and side > 0 for side in px)
    )
    return sized and isinstance(record.get("sha256"), str)


def _find(known: Dataset, name: str, roots: Sequence[Path]) -> ImageSet | None:
    for root in roots:
        for folder in places_in(name, root):
            if (found := _in_folder(known, name, folder)) is not None:
                return found
    return _joined(known, name, roots)


def _joined(known: Dataset, name: str, roots: Sequence[Path]) -> ImageSet | None:
    """A set made of others, which may lie anywhere under the roots. Its images are in the order of their names."""
    found = [_find(dataset(part), part, roots) for part in known.parts]
    parts = tuple(part for part in found if part is not None)
    if not parts or len(parts) < len(found):
        return None
    notes = tuple(note for part in parts for note in part.notes)
    return ImageSet(name, parts[0].folder, _in_order_of_names(parts), parts=parts, notes=notes)


def _in_order_of_names(parts: Sequence[ImageSet]) -> tuple[ImageFile, ...]:
    return tuple(
        sorted((file for part in parts for file in part.files), key=lambda file: file.name)
    )


def _in_folder(known: Dataset, name: str, folder: Path) -> ImageSet | None:
    """The set, if its folder holds it; None where only its parts can be there."""
    content = SetFolder(folder)
    if known.parts and not holds_itself(known, content.paths):
        return _joined(known, name, [folder])
    found, problems = _read(known, name, content)
    if problems:
        raise DatasetProblem(f"data set {name!r}:\n  " + "\n  ".join(problems))
    return found


def _read(known: Dataset, name: str, content: SetFolder) -> tuple[ImageSet, list[str]]:
    """The set, and everything that is wrong with it."""
    found = arrange(known, content.paths, str(content.folder))
    problems = [*content.walked.problems, *found.problems]
    notes = _notes(name, content, found)
    if found.pairs:
        gt = content.files([(pair.names[0], pair.gt) for pair in found.pairs], problems)
        lq = content.files([(pair.names[1], pair.lq) for pair in found.pairs], problems)
        return ImageSet(name, content.folder, gt, lq, notes=notes), problems
    by_scale = {
        scale: content.files(sorted(lot.items(), key=lambda both: order_of(both[0])), problems)
        for scale, lot in sorted(found.gt.items())
    }
    files = next(iter(by_scale.values()), ())
    source = ImageSet(
        name,
        content.folder,
        files,
        by_scale=by_scale if list(by_scale) != [WHOLE] else {},
        notes=notes,
    )
    if (
        not problems
        and not content.elsewhere
        and (alike := of_like_names([file.name for file in files]))
    ):
        from trainers.data.twins import (
            same_in_another_size,
        )  # Pillow, which planning needs for few sets

        by_name = {file.name: file for file in files}
        problems += same_in_another_size(
            [[by_name[name] for name in names] for names in alike], content.folder
        )
    return source, problems


def _notes(name: str, content: SetFolder, found: Arrangement) -> tuple[str, ...]:
    """What lies in a set's folder and is left out of it, in words."""
    walked, known = content.walked, dataset(name)
    notes = [f"a link is not followed: {skipped}" for skipped in walked.skipped]
    if found.others and (found.gt or found.pairs):
        notes.append(
            f"{len(found.others)} images are not of the set by its layout, and are left out: {by_folder(found.others)}"
        )
    count = len(next(iter(found.gt.values()), ()))
    if known.images and 0 < count < min(known.images):
        notes.append(
            f"holds {count} of the {' or '.join(map(str, known.images))} images of a whole copy"
        )
    return (
        *left_out(walked.junk, content.address),
        *(f"{content.address}: {note}" for note in notes),
    )


class SetFolder:
    """A set's folder: what lies there, or what its manifest says lies at a source that has not been fetched (`elsewhere`).

    `address` is where people find it. A record of a source may hold a `problem` instead of being right.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_manifest(folder) or {"images": {}, "source": None}
        self._known: Mapping[str, Mapping[str, Any]] = manifest["images"]
        self.elsewhere = manifest["source"] is not None
        self.address: str = manifest["source"] or str(folder)
        self.walked = (
            Walked([path for path in self._known if is_image(path)])
            if self.elsewhere
            else walk(folder)
        )

    @property
    def paths(self) -> list[str]:
        return self.walked.images

    def reduced(self) -> tuple[Reduced, ...]:
        """The reduced images, by folder and scale, also RCAN's beside the set's folder: ../../LR/LRBI/Set5/x2."""
        return (*arrange(dataset(""), self.paths, str(self.folder)).reduced, *self._beside())

    def _beside(self) -> list[Reduced]:
        """Of HR/Set5, what LR/LRBI/Set5 holds; on S3 a set is one prefix, and nothing lies beside it."""
        name, above = self.folder.name, self.folder.parent
        if self.elsewhere or above.name != "HR" or not (above.parent / "LR").is_dir():
            return []
        found = []
        for folder in sorted((above.parent / "LR").glob(f"*/{name}/[xX][0-9]")):
            below = f"../../{folder.relative_to(above.parent)}"
            images = {f"{below}/{path}": path.rpartition(".")[0] for path in walk(folder).images}
            found.append(Reduced(below, int(folder.name[1:]), images))
        return found

    def files(
        self, images: Sequence[tuple[str, str]], problems: list[str]
    ) -> tuple[ImageFile, ...]:
        """The images of these names and paths; what is wrong with the others is added to `problems`."""
        with ThreadPoolExecutor(READERS) as readers:
            found = list(readers.map(lambda both: self._image(*both), images))
        problems += [problem for problem in found if isinstance(problem, str)]
        return tuple(file for file in found if isinstance(file, ImageFile))

    def _image(self, name: str, below: str) -> ImageFile | str:
        """The image, or what is wrong with it. Its bytes are read only where the manifest does not know them."""
        path, known = self.folder / below, self._known.get(below)
        if known is not None and self.elsewhere:
            return str(known["problem"]) if "problem" in known else _recorded(name, path, known)
        try:
            stat = path.stat()
            if known is not None and (stat.st_size, stat.st_mtime_ns) == (
                known["bytes"],
                known.get("mtime_ns"),
            ):
                return _recorded(name, path, known)
            with path.open("rb") as file:
                return ImageFile(name, path, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            return f"{path}: cannot be read: {error.strerror}"


def _recorded(name: str, path: Path, known: Mapping[str, Any]) -> ImageFile:
    return ImageFile(
        name, path, str(known["sha256"]), tuple(known["px"]) if "px" in known else None
    )
