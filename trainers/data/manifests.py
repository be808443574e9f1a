"""Which images a data set is: names and checksums. Pure: decodes no image, so planning can ask.

The embedded sets are photographs inside the installed scikit-image wheel, listed in `embedded.json` beside this file and
split by name. Any other name is a folder ROOT/<name> or ROOT/*/<name>, laid out as trainers.data.datasets says.

A folder's checksums are in its `normsweep.json` once `normsweep data check` has written it; a file that is still as large
and as old as there is not read again. The same file below an S3 prefix says what the prefix holds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from trainers.data.datasets import DATASETS, Dataset, Layout, dataset, meant
from trainers.spec import SET_NAME

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
ROOTS_VARIABLE = "NORMSWEEP_DATA"
MANIFEST = "normsweep.json"
REDUCED = "LR_bicubic"  # how the names of folders with reduced images end
READERS = 8  # threads that read files
Px = tuple[int, int]  # width, height


class DatasetProblem(ValueError):
    """A data set that is missing or not what it should be; the message names every file it is about."""


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
    """

    name: str
    folder: Path
    files: tuple[ImageFile, ...]
    lq_files: tuple[ImageFile, ...] = ()
    lq_scale: int = 1
    parts: tuple[ImageSet, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the manifest: the files' names and checksums."""
        sides = [[(file.name, file.sha256) for file in side] for side in (self.files, self.lq_files)]
        return hashlib.sha256(json.dumps(sides if sides[1] else sides[0], separators=(",", ":")).encode()).hexdigest()


def embedded_names() -> tuple[str, ...]:
    return tuple(_embedded())


def find_set(name: str, roots: Sequence[Path] = ()) -> ImageSet:
    """The set of this name, embedded or under one of `roots` (then NORMSWEEP_DATA). Raises DatasetProblem."""
    check_name(name)
    embedded = _embedded()
    if name in embedded:
        folder = _photographs()
        files = (ImageFile(file, folder / file, sha256) for file, sha256 in sorted(embedded[name].items()))
        return ImageSet(name, folder, tuple(files))
    searched = list(dict.fromkeys([*roots, *(Path(root) for root in named_roots() if "://" not in root)]))
    found = _find(dataset(name), name, searched)
    if found is not None:
        return found
    looked = (
        ", ".join(f"{root}/{name}, {root}/*/{name}" for root in searched)
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
    return [root for root in re.split(f"{os.pathsep}(?!//)", os.environ.get(ROOTS_VARIABLE, "")) if root]


def open_set(name: str, folder: Path) -> ImageSet:
    """The set `name` whose folder this is. Raises DatasetProblem."""
    found = _in_folder(dataset(name), name, folder) if folder.is_dir() else None
    if found is None:
        raise DatasetProblem(f"data set {name!r}: {folder} is no folder that holds it")
    return found


def look_into(name: str, folder: Path) -> tuple[ImageSet, list[str]]:
    """The images of `name` in its folder, and what is wrong with them as far as names and checksums tell."""
    content = SetFolder(folder)
    for layout in dataset(name).layouts:
        if content.has(layout.gt) and (layout.lq is None or content.has(layout.lq)):
            return _read_layout(name, content, layout)
    return ImageSet(name, folder, ()), [
        f"{folder}: is no folder" if not folder.is_dir() else f"{folder}: holds no images"
    ]


def write_manifest(name: str, folder: Path, files: Sequence[ImageFile]) -> None:
    """Keep the checksums of `files` in their folder, aside and renamed."""
    images = {}
    for file in files:
        stat = file.path.stat()
        record = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": file.sha256}
        images[file.path.relative_to(folder).as_posix()] = record | ({"px": file.px} if file.px else {})
    target = folder / MANIFEST
    aside = target.with_suffix(f".aside-{os.getpid()}")
    with aside.open("w") as out:
        out.write(manifest_text(name, images))
        out.flush()
        os.fsync(out.fileno())
    aside.rename(target)


def manifest_text(name: str, images: Mapping[str, Mapping[str, Any]], source: str | None = None) -> str:
    """A manifest's content: by path, the bytes, sha256 and size of every image; `source`, if they lie elsewhere, says where."""
    return json.dumps({"version": 1, "name": name, "source": source, "images": images}, indent=1) + "\n"


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
    images = content.get("images") if isinstance(content, dict) and content.get("version") == 1 else None
    if not isinstance(images, dict) or not all(map(_is_record, images.values())):
        raise DatasetProblem(f"{where}: is no manifest of a data set (version 1)")
    for path in map(PurePosixPath, images):
        if path.is_absolute() or ".." in path.parts:
            raise DatasetProblem(f"{where}: names {str(path)!r}, which lies outside its folder")
    return dict(content)


def is_reduced(path: PurePath) -> bool:
    """Whether an image is one reduced from a set's own (LR_bicubic/X2/a.png): checked with them, but not of its identity."""
    return any(part.endswith(REDUCED) for part in path.parts[:-1])


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("bytes"), int):
        return False
    px = record.get("px", [1, 1])  # not in manifests of earlier versions
    sized = isinstance(px, list) and len(px) == 2 and all(type(side) is int and side > 0 for side in px)
    return sized and isinstance(record.get("sha256"), str)


def _find(known: Dataset, name: str, roots: Sequence[Path]) -> ImageSet | None:
    for root in roots:
        for alias in (name, *known.also_named):
            for folder in (root / alias, *sorted(root.glob(f"*/{alias}"))):
                if folder.is_dir() and (found := _in_folder(known, name, folder)) is not None:
                    return found
    return _joined(known, name, roots)


def _joined(known: Dataset, name: str, roots: Sequence[Path]) -> ImageSet | None:
    """A set made of others, which may lie anywhere under the roots. Its images are in the order of their names."""
    found = [_find(dataset(part), part, roots) for part in known.parts]
    parts = tuple(part for part in found if part is not None)
    if not parts or len(parts) < len(found):
        return None
    files = sorted((file for part in parts for file in part.files), key=lambda file: file.name)
    return ImageSet(name, parts[0].folder, tuple(files), parts=parts)


def _in_folder(known: Dataset, name: str, folder: Path) -> ImageSet | None:
    """The set in the first layout that the folder has; None where only its parts can be there."""
    content = SetFolder(folder)
    for layout in known.layouts:
        if known.parts and layout.gt == ".":
            return _joined(known, name, [folder])
        if content.has(layout.gt) and (layout.lq is None or content.has(layout.lq)):
            found, problems = _read_layout(name, content, layout)
            if problems:
                raise DatasetProblem(f"data set {name!r}:\n  " + "\n  ".join(problems))
            return found
    return None


def _read_layout(name: str, content: SetFolder, layout: Layout) -> tuple[ImageSet, list[str]]:
    problems: list[str] = []
    gt = content.images(layout.gt, problems)
    if layout.lq is not None:
        lq = content.images(layout.lq, problems)
        by_stem = {Path(file.name).stem: file for file in lq}
        stems = {Path(file.name).stem for file in gt}
        problems += [f"{f.path}: has no partner in {layout.lq}/" for f in gt if Path(f.name).stem not in by_stem]
        problems += [f"{f.path}: has no partner in {layout.gt}/" for f in lq if Path(f.name).stem not in stems]
        lq = [by_stem[Path(file.name).stem] for file in gt if Path(file.name).stem in by_stem]
        found = ImageSet(name, content.folder, _in_side("target", gt), _in_side("input", lq))
    else:
        found = ImageSet(name, content.folder, tuple(gt))
    if not found.files and not problems:
        where = content.folder / layout.gt if layout.gt != "." else content.folder
        problems.append(f"{where}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found, problems


def _in_side(side: str, files: Sequence[ImageFile]) -> tuple[ImageFile, ...]:
    return tuple(replace(file, name=f"{side}/{file.name}") for file in files)


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

    def has(self, sub: str) -> bool:
        if self.elsewhere:
            return sub == "." or any(path.startswith(f"{sub}/") for path in self._known)
        return (self.folder / sub).is_dir()

    def reduced_folders(self) -> dict[str, int]:
        """Folders of reduced images, `LR_bicubic/X4` or `DIV2K_train_LR_bicubic/X4`, and their factors."""
        if self.elsewhere:
            found = sorted({"/".join(path.split("/")[:2]) for path in self._known if path.count("/") > 1})
        else:
            folders = sorted(self.folder.glob(f"*{REDUCED}/X*"))
            found = [path.relative_to(self.folder).as_posix() for path in folders if path.is_dir()]
        return {sub: int(match[1]) for sub in found if (match := re.fullmatch(rf"[^/]*{REDUCED}/X(\d+)", sub))}

    def images(self, sub: str, problems: list[str]) -> list[ImageFile]:
        """The images below `sub`, by name; what is wrong with the others is added to `problems`."""
        below = self.folder / sub
        if self.elsewhere:
            prefix = "" if sub == "." else f"{sub}/"
            known = [path for path in self._known if path.startswith(prefix)]
            paths = [self.folder / path for path in known if _is_of_set(PurePath(path.removeprefix(prefix)))]
        else:
            paths = [path for path in below.rglob("*") if _is_of_set(path.relative_to(below))]
        paths.sort()
        with ThreadPoolExecutor(READERS) as readers:
            found = list(readers.map(lambda path: self._image(path.relative_to(below).as_posix(), path), paths))
        problems += [problem for problem in found if isinstance(problem, str)]
        return [file for file in found if isinstance(file, ImageFile)]

    def _image(self, name: str, path: Path) -> ImageFile | str:
        """The image, or what is wrong with it. Its bytes are read only where the manifest does not know them."""
        known = self._known.get(path.relative_to(self.folder).as_posix())
        if known is not None and self.elsewhere:
            return str(known["problem"]) if "problem" in known else _recorded(name, path, known)
        try:
            stat = path.stat()
            if known is not None and (stat.st_size, stat.st_mtime_ns) == (known["bytes"], known.get("mtime_ns")):
                return _recorded(name, path, known)
            with path.open("rb") as file:
                return ImageFile(name, path, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            return f"{path}: cannot be read: {error.strerror}"


def _recorded(name: str, path: Path, known: Mapping[str, Any]) -> ImageFile:
    return ImageFile(name, path, str(known["sha256"]), tuple(known["px"]) if "px" in known else None)


def _is_of_set(path: Path) -> bool:
    """Whether a file is one of the images, not one that was reduced from them."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_reduced(path)


def _embedded() -> dict[str, dict[str, str]]:
    sets: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("embedded.json").read_bytes())
    return sets


def _photographs() -> Path:
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise DatasetProblem(
            "the embedded photographs lie in scikit-image, which is not installed: pip install scikit-image"
        )
    return Path(found.origin).parent / "data"
