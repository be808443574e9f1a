"""The content of a data set's folder: its images, whether they are there or at a source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trainers.data.datasets import dataset
from trainers.data.finder import Reduced, arrange, is_image
from trainers.data.folder import Walked, walk
from trainers.data.manifests import ImageFile, read_manifest

READERS = 8  # threads that read files


class SetFolder:
    """A set's folder: what is in it, or what its manifest says is at a source (`elsewhere`).

    A source has not been fetched, so only its manifest is in the folder; a record in it may hold a
    `problem` in place of valid values. `address` is where people find the images.
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
        """The reduced images, by folder and scale.

        Those of RCAN are outside the set's folder: ../../LR/LRBI/Set5/x2.
        """
        return (*arrange(dataset(""), self.paths, str(self.folder)).reduced, *self._beside())

    def _beside(self) -> list[Reduced]:
        """For HR/Set5, the content of LR/LRBI/Set5; empty on S3, where a set is a single prefix."""
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
        """The images with these names and paths; problems with the others go into `problems`."""
        with ThreadPoolExecutor(READERS) as readers:
            found = list(readers.map(lambda both: self._image(*both), images))
        problems += [problem for problem in found if isinstance(problem, str)]
        return tuple(file for file in found if isinstance(file, ImageFile))

    def _image(self, name: str, below: str) -> ImageFile | str:
        """The image, or the problem with it. Its bytes are read only if the manifest lacks it."""
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
