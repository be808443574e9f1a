"""Looks up data sets by name: the embedded ones, and folders of images below the user's roots.

The embedded sets are photographs inside the installed scikit-image wheel, listed in
`embedded.json` beside this file and split by name. Any other name is a folder ROOT/<name> or
ROOT/*/<name>, laid out as trainers.data.datasets says.

Planning calls this, so images are not decoded here, except a few with similar names
(trainers.data.twins).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from trainers.data.datasets import DATASETS, Dataset, dataset, meant
from trainers.data.embedded import embedded_sets, photographs
from trainers.data.finder import (
    Arrangement,
    arrange,
    by_folder,
    holds_itself,
    left_out,
    of_like_names,
)
from trainers.data.manifests import DatasetProblem, ImageFile, ImageSet, in_order_of_names
from trainers.data.places import looked_for, places_in
from trainers.data.set_folder import SetFolder
from trainers.data.templates import WHOLE, order_of
from trainers.spec import SET_NAME

ROOTS_VARIABLE = "NORMSWEEP_DATA"


def find_set(name: str, roots: Sequence[Path] = ()) -> ImageSet:
    """The set of this name, embedded or below one of `roots` (then NORMSWEEP_DATA).

    Raises DatasetProblem if it is not found, or not in order.
    """
    check_name(name)
    embedded = embedded_sets()
    if name in embedded:
        folder = photographs()
        if folder is None:
            raise DatasetProblem(
                "the embedded photographs are part of scikit-image, which is not installed. "
                "Install it: pip install scikit-image."
            )
        files = (
            ImageFile(file, folder / file, sha256)
            for file, sha256 in sorted(embedded[name].items())
        )
        return ImageSet(name, folder, tuple(files))
    # S3 prefixes are left to the orchestrator, which passes a local folder in `roots` for each.
    searched = list(
        dict.fromkeys([*roots, *(Path(root) for root in named_roots() if "://" not in root)])
    )
    found = _find(dataset(name), name, searched)
    if found is not None:
        return found
    looked = (
        ", ".join(looked_for(name, root) for root in searched)
        or f"nowhere; give --data ROOT or set {ROOTS_VARIABLE}"
    )
    known = DATASETS.get(name)
    about = f" {name}: {known.about}; available from {known.page}." if known else ""
    raise DatasetProblem(
        f"no data set {name!r}.{meant(name)} Embedded: {', '.join(embedded)}. "
        f"Looked in: {looked}.{about}"
    )


def check_name(name: str) -> None:
    """Raise DatasetProblem if `name` cannot be that of a set, before it becomes a path or a key."""
    if not re.fullmatch(SET_NAME, name):
        raise DatasetProblem(
            f"{name!r} is not a valid name for a data set. Use letters, digits and . _ - only."
        )


def named_roots() -> list[str]:
    """The roots in NORMSWEEP_DATA: folders, and S3 prefixes, fetched by the orchestrator only."""
    # os.pathsep is a colon, too, but the one in s3:// does not separate roots.
    return [
        root for root in re.split(f"{os.pathsep}(?!//)", os.environ.get(ROOTS_VARIABLE, "")) if root
    ]


def open_set(name: str, folder: Path) -> ImageSet:
    """The set `name` in its own folder. Raises DatasetProblem."""
    found = _in_folder(dataset(name), name, folder) if folder.is_dir() else None
    if found is None:
        raise DatasetProblem(f"data set {name!r}: {folder} is not a folder that holds it")
    return found


def look_into(name: str, folder: Path) -> tuple[ImageSet, list[str]]:
    """The images of `name` in its folder, and the problems that names and checksums reveal."""
    if not folder.is_dir():
        return ImageSet(name, folder, ()), [f"{folder}: not a folder"]
    return _read(dataset(name), name, SetFolder(folder))


def _find(known: Dataset, name: str, roots: Sequence[Path]) -> ImageSet | None:
    for root in roots:
        for folder in places_in(name, root):
            if (found := _in_folder(known, name, folder)) is not None:
                return found
    return _joined(known, name, roots)


def _joined(known: Dataset, name: str, roots: Sequence[Path]) -> ImageSet | None:
    """A set made of others, which may be anywhere below the roots, its images sorted by name.

    None for any other set, and if a part is missing.
    """
    found = [_find(dataset(part), part, roots) for part in known.parts]
    parts = tuple(part for part in found if part is not None)
    if not parts or len(parts) < len(found):
        return None
    notes = tuple(note for part in parts for note in part.notes)
    return ImageSet(name, parts[0].folder, in_order_of_names(parts), parts=parts, notes=notes)


def _in_folder(known: Dataset, name: str, folder: Path) -> ImageSet | None:
    """The set, if its folder holds it; None if it is made of others that are not all there."""
    content = SetFolder(folder)
    if known.parts and not holds_itself(known, content.paths):
        return _joined(known, name, [folder])
    found, problems = _read(known, name, content)
    if problems:
        raise DatasetProblem(f"data set {name!r}:\n  " + "\n  ".join(problems))
    return found


def _read(known: Dataset, name: str, content: SetFolder) -> tuple[ImageSet, list[str]]:
    """The set, and all problems with it."""
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
    if not problems and not content.elsewhere:
        problems += _twin_problems(files, content.folder)
    return source, problems


def _twin_problems(files: Sequence[ImageFile], folder: Path) -> list[str]:
    """The problem with a set that holds the same pictures in several sizes."""
    alike = of_like_names([file.name for file in files])
    if not alike:
        return []
    # Imported late, with Pillow: planning needs it for few sets, and has to be fast.
    from trainers.data.twins import same_in_another_size

    by_name = {file.name: file for file in files}
    return same_in_another_size([[by_name[name] for name in names] for names in alike], folder)


def _notes(name: str, content: SetFolder, found: Arrangement) -> tuple[str, ...]:
    """Notes on what is in a set's folder but left out of it, and on images that are missing."""
    walked, known = content.walked, dataset(name)
    notes = [f"a link is not followed: {skipped}" for skipped in walked.skipped]
    if found.others and (found.gt or found.pairs):
        notes.append(
            f"{len(found.others)} images have no place in the set's layout and are left out: "
            f"{by_folder(found.others)}"
        )
    count = len(next(iter(found.gt.values()), ()))
    if known.images and 0 < count < min(known.images):
        notes.append(
            f"holds {count} of the {' or '.join(map(str, known.images))} images of a complete copy"
        )
    return (
        *left_out(walked.junk, content.address),
        *(f"{content.address}: {note}" for note in notes),
    )
