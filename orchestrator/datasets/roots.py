"""Data sets from folders and S3 prefixes to where a rank can open them: the node's cache.

On S3 a set is a prefix with a `normsweep.json`, which `normsweep data check` writes: planning reads that and a listing, no image.
The first process of a node that needs the set fetches it, the others wait for it; what a killed one has fetched is kept.
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
    """Where data sets lie, first `given`, then what NORMSWEEP_DATA names: folders and S3 prefixes, searched in this order.

    Of a set on S3 there is, while this object lives, a local folder with nothing but its manifest.
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
        """Folders in which these sets can be found and opened, those on S3 fetched; for a task that is given its LR images,
        those of `lr_scale` as well. Raises as `find`, and CacheProblem.
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
    """In one form, whatever folder this process is in. Raises UserError."""
    return Prefix(root).uri if "://" in root else str(Path(root).absolute())
