"""Copies of a data set: finds them by the set's names and layouts, and checks them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.datasets.fetch import fetch_listed
from orchestrator.datasets.places import Folders, first_place, folders_below
from orchestrator.datasets.remote import images_at, read_manifest_at
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.objects import Listed, Prefix, is_s3
from trainers.data.cache import Cache, cache_root
from trainers.data.check import check
from trainers.data.datasets import DATASETS, Dataset, dataset, meant
from trainers.data.embedded import embedded_names
from trainers.data.finder import has_image_suffix, is_image, left_out
from trainers.data.lookup import check_name
from trainers.data.manifests import ImageFile, ImageSet, read_manifest
from trainers.data.places import looked_for, names_of


@dataclass(frozen=True)
class Copy:
    """A checked copy of the set `name` at `where`.

    Its files are read from the folder of `found`; for a copy on S3, that is in the cache.
    """

    name: str
    where: str
    found: ImageSet
    reduced: tuple[ImageFile, ...]  # beside them: LR_bicubic/X2/...
    listed: Mapping[str, Listed]  # the objects below an S3 prefix

    @property
    def files(self) -> dict[str, ImageFile]:
        """The set's own images, by path below its folder."""
        return {
            file.path.relative_to(self.found.folder).as_posix(): file
            for file in self.found.all_files
        }

    @property
    def all_files(self) -> dict[str, ImageFile]:
        """The set's own images and the reduced ones, by path below its folder."""
        return self.files | {file.name: file for file in self.reduced}

    @property
    def reduced_folders(self) -> list[str]:
        return list(dict.fromkeys(file.name.rpartition("/")[0] for file in self.reduced))


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn errors of the file system into EnvironmentProblem."""
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(f"{error.filename}: {error.strerror}") from error


def find_copies(name: str, place: str, *, partial: bool) -> list[Copy]:
    """Find and check copies of the set, or of each set that it is made of.

    Raises UserError with all problems.
    """
    check_name(name)
    if name in embedded_names():
        raise UserError(
            f"{name} is part of the installed scikit-image: it needs no checking and no staging."
        )
    copies, problems = [], []
    for part, where in _parts(name, place):
        copy, wrong = _checked(part, where, partial=partial)
        copies.append(copy)
        # A copy on S3 is checked in the cache, but people know it by its address.
        problems += [problem.replace(str(copy.found.folder), where) for problem in wrong]
    for note in (note for copy in copies for note in copy.found.notes):
        print(note)
    if problems:
        raise UserError(
            "\n".join([*problems, f"{name}: {len(problems)} problems; nothing was written."])
        )
    return copies


def _parts(name: str, place: str) -> list[tuple[str, str]]:
    """The set, or the sets it is made of, each with its folder or prefix at or below `place`."""
    place = place.rstrip("/") or "/"
    if not is_s3(place) and not Path(place).is_dir():
        raise UserError(f"{place}: not a folder. Give a folder or s3://BUCKET/PREFIX.")
    known = dataset(name)
    named = _named(name, place)
    home = named or place
    if known.parts and not _has_layout(known, home):
        parts = {part: _named(part, home) for part in known.parts}
        if None in parts.values():
            raise UserError(
                "\n".join(_not_there(part, home) for part, where in parts.items() if where is None)
            )
        return [(part, where) for part, where in parts.items() if where is not None]
    if named is None and (name not in DATASETS or not _has_layout(known, place)):
        raise UserError(_not_there(name, place))
    return [(name, home)]


def _not_there(name: str, place: str) -> str:
    return f"no data set {name!r} in {place}: looked for {looked_for(name, place)}.{meant(name)}"


def _named(name: str, place: str) -> str | None:
    """The place itself, or else a place below it, if it has one of the set's names."""
    itself = place if is_s3(place) else str(Path(place).resolve())  # `.` has a name, too
    if {place.rpartition("/")[2], itself.rpartition("/")[2]} & {*names_of(name)}:
        return place
    return first_place(name, place, Folders())


def _has_layout(known: Dataset, place: str) -> bool:
    """Return whether a place of any name holds images in a layout of the set.

    A place that only holds the folders of other sets does not.
    """
    for layout in known.layouts:
        folder = layout.gt.rpartition("/{key}")[0]
        if layout.gt == "{key}" and not known.parts and _holds_images(place):
            return True
        if folder and _has_folder(place, folder):
            return True
    # SelfExSR's folders, which are not in the template of its layout.
    return _has_folder(place, "image_SRF_{scale}")


def _has_folder(place: str, template: str) -> bool:
    above, _, folder = f"{place}/{template}".rpartition("/")
    pattern = re.sub(r"^x(?=\{)", "[xX]", folder).replace("{scale}", r"\d+")
    return "{" not in above and any(re.fullmatch(pattern, name) for name in folders_below(above))


def _holds_images(place: str) -> bool:
    """Return whether there are images directly in a folder or below a prefix."""
    names = (
        Prefix(place).list()
        if is_s3(place)
        else [path.name for path in Path(place).iterdir() if path.is_file()]
    )
    return any("/" not in name and is_image(name) for name in names)


def _checked(name: str, where: str, *, partial: bool) -> tuple[Copy, tuple[str, ...]]:
    """The copy at `where`, and the problems with it."""
    listed: Mapping[str, Listed] = {}
    notes: list[str] = []
    if is_s3(where):
        prefix = Prefix(where)
        listed = prefix.list()
        images = images_at(listed)
        notes = left_out(
            [key for key in listed if has_image_suffix(key) and key not in images], where
        )
        if not images:
            raise UserError(f"{where}: holds no images")
        folder, recorded = (
            fetch_listed(prefix, name, images, Cache(cache_root())),
            read_manifest_at(prefix, listed),
        )
    else:
        folder = Path(where)
        recorded = (read_manifest(folder) or {}).get("images")
    checked = check(name, folder, recorded, partial=partial)
    found = checked.source
    notes += [note.replace(str(found.folder), where) for note in found.notes]
    return Copy(
        name, where, replace(found, notes=tuple(notes)), checked.reduced, listed
    ), checked.problems
