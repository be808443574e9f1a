"""Checks a data set's folder: decodes every image and reports all problems, each with its file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from trainers.data.datasets import Dataset, dataset
from trainers.data.finder import REDUCED, Reduced, is_image, is_reduced
from trainers.data.given import pair, size_problem
from trainers.data.images import decode
from trainers.data.lookup import look_into
from trainers.data.manifests import MANIFEST, DatasetProblem, ImageFile, ImageSet
from trainers.data.packed import in_order
from trainers.data.set_folder import SetFolder


@dataclass(frozen=True)
class Checked:
    """A data set's folder after its check.

    `source` is the set as far as it can be read, with the checksums of the bytes that were decoded;
    `reduced` are the reduced images beside it.
    """

    source: ImageSet
    reduced: tuple[ImageFile, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    sha256: str = ""
    size: tuple[int, int] | None = None  # width, height; None if it cannot be decoded
    problem: str = ""


def check(
    name: str,
    folder: Path,
    recorded: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    partial: bool = False,
) -> Checked:
    """Read and decode every image of the set `name` in its folder, with reduced images beside it.

    This checks the number of images (unless a `partial` copy is meant), the checksums `recorded` in
    a manifest, the partners, and the sizes of pairs and of reduced images. A folder of reduced
    images (LR_bicubic/X2 ...) that the manifest does not know is new, and not a problem.
    """
    found, problems = look_into(name, folder)
    lots = SetFolder(folder).reduced()
    paths = list(
        dict.fromkeys([*_paths(found), *(folder / path for lot in lots for path in lot.images)])
    )
    seen = dict(zip(paths, in_order(_look, paths), strict=True))
    problems += [f"{path}: {about.problem}" for path, about in seen.items() if about.problem]
    problems += _count_problems(dataset(name), found, partial=partial)
    if recorded is not None:
        here = {PurePath(path.relative_to(folder)): about.sha256 for path, about in seen.items()}
        then = {
            PurePath(path): str(record["sha256"])
            for path, record in recorded.items()
            if is_image(path)
        }
        inside = {path: sha256 for path, sha256 in here.items() if ".." not in path.parts}
        problems += _checksum_problems(folder, then, inside)
    problems += [
        f"{lq.path}: is {_px(seen[lq.path])}, but its partner {gt.name} is {_px(seen[gt.path])}"
        for gt, lq in _partners(found)
        if _differ(seen[gt.path], seen[lq.path])
    ]
    reduced = []
    for lot in lots:
        problems += _reduced_problems(found, folder, lot, seen)
        reduced += [
            ImageFile(
                _place(path, lot),
                folder / path,
                seen[folder / path].sha256,
                seen[folder / path].size,
            )
            for path in sorted(lot.images)
        ]
    return Checked(_sized(found, seen), tuple(reduced), tuple(problems))


def _paths(found: ImageSet) -> list[Path]:
    return [file.path for file in found.all_files]


def _partners(found: ImageSet) -> list[tuple[ImageFile, ImageFile]]:
    """The pairs whose two sides can both be read."""
    by_key = {_key(lq): lq for lq in found.lq_files}
    return [(gt, by_key[_key(gt)]) for gt in found.files if _key(gt) in by_key]


def _key(file: ImageFile) -> str:
    return file.name.partition("/")[2].rpartition(".")[0]


def _place(path: str, lot: Reduced) -> str:
    """The path of a reduced image in a copy of the set, where RCAN's are inside, too."""
    return path if not path.startswith("../") else f"{REDUCED}/X{lot.scale}/{PurePath(path).name}"


def _sized(found: ImageSet, seen: Mapping[Path, _Seen]) -> ImageSet:
    """The set with the sizes that were found."""

    def sized(files: Sequence[ImageFile]) -> tuple[ImageFile, ...]:
        return tuple(replace(file, px=seen[file.path].size) for file in files)

    by_scale = {scale: sized(files) for scale, files in found.by_scale.items()}
    return replace(
        found, files=sized(found.files), lq_files=sized(found.lq_files), by_scale=by_scale
    )


def _look(path: Path) -> _Seen:
    try:
        content = path.read_bytes()
    except OSError as error:
        return _Seen(problem=f"cannot be read: {error.strerror}")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        height, width = decode(content).shape[:2]
    except ValueError as error:
        return _Seen(sha256, problem=str(error))
    return _Seen(sha256, (width, height))


def _count_problems(known: Dataset, found: ImageSet, *, partial: bool) -> list[str]:
    """The problem with an incomplete copy; the finder has refused one with too many images."""
    lots = list(found.by_scale.values()) or [found.files]
    what = "pairs" if found.lq_files else "images"
    return [
        f"{found.folder}: holds {len(files)} {what}, but a complete copy has "
        f"{' or '.join(map(str, known.images))}"
        for files in lots
        if known.images
        and not partial
        and len(files) not in known.images
        and len(files) < max(known.images)
    ]


def _checksum_problems(
    folder: Path, then: Mapping[PurePath, str], here: Mapping[PurePath, str]
) -> list[str]:
    """Compare the checksums of the first check with those of now, both by path below the folder."""
    accept = f"restore it, or remove {MANIFEST} to accept the file as it is now"
    # Reduced images may be added later, so a folder that the first check did not see is not a
    # problem. One that has gone is reported once, not once for each of its files.
    checked_then = {path.parent for path in then if is_reduced(path)}
    checked_now = {path.parent for path in here if is_reduced(path)}
    missing = {
        path.parent if path.parent in checked_then - checked_now else path
        for path in then.keys() - here
    }
    new = {
        path for path in here.keys() - then if not is_reduced(path) or path.parent in checked_then
    }
    # A file without a checksum could not be read, which is reported already.
    changed = {path for path in here.keys() & then if here[path] not in ("", then[path])}
    return sorted(
        [
            *(f"{folder / path}: is missing, but was there at the first check" for path in missing),
            *(f"{folder / path}: was not there at the first check" for path in new),
            *(
                f"{folder / path}: is not the file of the first check (checksum): {accept}"
                for path in changed
            ),
        ]
    )


def _reduced_problems(
    found: ImageSet, folder: Path, lot: Reduced, seen: Mapping[Path, _Seen]
) -> list[str]:
    """Problems with one lot of reduced images.

    Each image of the set must have one reduced by the lot's scale (the remainder of its rows and
    columns cropped), under the same name or with `x4` at the end.
    """
    try:
        files = found.at_scale(lot.scale).files
    except DatasetProblem as problem:
        return [str(problem)]
    keys = {folder / path: key for path, key in lot.images.items()}
    partners, problems = pair(files, keys, lot.scale, folder / lot.folder)
    for file in files:
        path = partners.get(file.path)
        hr_px, lr_px = seen[file.path].size, seen[path].size if path else None
        if path is not None and hr_px is not None and lr_px is not None:
            wrong = size_problem(file, hr_px, path, lr_px, lot.scale)
            problems += [wrong] if wrong else []
    return problems


def _differ(one: _Seen, other: _Seen) -> bool:
    return one.size is not None and other.size is not None and one.size != other.size


def _px(seen: _Seen) -> str:
    return f"{seen.size[0]} x {seen.size[1]} pixels" if seen.size else "unreadable"
