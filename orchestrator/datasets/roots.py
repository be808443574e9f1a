"""Data sets in folders and below S3 prefixes: finds them, and fetches them to where a rank reads.

On S3 a set is a prefix with a `normsweep.json`, which `normsweep data check` writes. Planning reads
that file and a listing, but no image. The first process on a node that needs the set fetches it to
the node's cache, and the others wait. What a killed process has fetched is kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from orchestrator.datasets.fetch import fetch_set
from orchestrator.datasets.places import Folders, places_below
from orchestrator.datasets.remote import valid_manifest_at
from orchestrator.objects import Prefix, is_s3
from trainers.data.cache import Cache
from trainers.data.datasets import dataset
from trainers.data.embedded import embedded_names
from trainers.data.given import with_given
from trainers.data.lookup import find_set, named_roots
from trainers.data.manifests import MANIFEST, DatasetProblem, ImageSet, manifest_text


class DataRoots:
    """The folders and S3 prefixes to search for data sets, in order: `given`, then NORMSWEEP_DATA.

    While this object lives, there is a local folder (a stub) for each set that it has found on S3,
    with nothing in it but the set's manifest.
    """

    def __init__(self, given: Sequence[str] = ()) -> None:
        self.given = tuple(map(_address, given))
        self.all = tuple(dict.fromkeys([*self.given, *map(_address, named_roots())]))
        self._stubs: tempfile.TemporaryDirectory[str] | None = None
        self._folders = Folders()
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
        """Fetch those of these sets that are on S3, and return roots where all of them are found.

        For a task with `lr_mode: given`, this includes the LR images of `lr_scale`. Raises what
        `find` raises, and CacheProblem.
        """
        if not any(map(is_s3, self.all)):
            return [Path(root) for root in self.all]
        sets = [self.find(name) for name in names]
        if lr_scale is not None:
            sets = [with_given(found, lr_scale) for found in sets]
        paths = [file.path for found in sets for file in found.all_files]
        used = [
            folder
            for folder in self._described
            if any(path.is_relative_to(folder) for path in paths)
        ]
        roots = []
        for root in self.all:
            if is_s3(root):
                inside = [folder for folder in used if folder.is_relative_to(self._folder(root))]
                roots += [
                    fetch_set(self._described[folder], folder, frozenset(paths), cache)
                    for folder in inside
                ]
            else:
                roots.append(Path(root))
        return roots

    def _folder(self, root: str) -> Path:
        """A root as a folder; for an S3 prefix, the folder of its stubs."""
        if not is_s3(root):
            return Path(root)
        if self._stubs is None:
            self._stubs = tempfile.TemporaryDirectory(prefix="normsweep-manifests-")
        return Path(self._stubs.name) / str(self.all.index(root))

    def _addressed(self, message: str) -> str:
        """The message with the addresses of sets in place of the paths of their stubs."""
        for root in filter(is_s3, self.all):
            message = message.replace(str(self._folder(root)), Prefix(root).uri)
        return message

    def _describe(self, root: Prefix, name: str) -> None:
        """Make the stubs of the set, under all its names, and of the sets that it is made of."""
        known, stub = dataset(name), self._folder(root.uri)
        for part in known.parts:
            self._describe(root, part)
        for place in places_below(root.uri, name, self._folders):
            folder, alias = stub / place, place.rpartition("/")[2]
            if (
                folder not in self._described
                and (manifest := valid_manifest_at(root / place, alias)) is not None
            ):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / MANIFEST).write_text(manifest_text(alias, manifest, (root / place).uri))
                self._described[folder] = root / place


def _address(root: str) -> str:
    """A root in its canonical form, whatever the working directory. Raises UserError."""
    return Prefix(root).uri if "://" in root else str(Path(root).absolute())
