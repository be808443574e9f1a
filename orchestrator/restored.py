"""Where `normsweep evaluate --save` puts restored images."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from orchestrator.errors import EnvironmentProblem, UserError

if TYPE_CHECKING:
    from trainers.data.images import Pixels


def saving(folder: Path, job: str, names: Sequence[str]) -> Callable[[str, Pixels], None]:
    """What saves the images with these names below the folder.

    It raises EnvironmentProblem if one cannot be written. Raises UserError for two images with one
    file: a square of `a.png`, say, and `a-0-256.png`.
    """
    files = _files_of(names)

    def save(name: str, pixels: Pixels) -> None:
        path = folder / job / files[name]
        try:
            _save(path, pixels)
        except OSError as error:
            raise EnvironmentProblem(
                f"--save {folder}: {error.strerror or error} ({path})"
            ) from error

    return save


def _files_of(names: Sequence[str]) -> dict[str, PurePosixPath]:
    """The file that each restored image is saved to."""
    files = {name: _file_of(name) for name in names}
    owners: dict[PurePosixPath, str] = {}
    for name, file in files.items():
        if owners.setdefault(file, name) != name:
            raise UserError(
                f"--save: {owners[file]} and {name} would both be saved as {file}. "
                "Rename one of them."
            )
    return files


def _file_of(name: str) -> PurePosixPath:
    """The file of a restored image; a square of one, `a.png[0,256]`, goes to `a-0-256.png`."""
    square = re.search(r"\[(\d+),(\d+)\]$", name)
    image = PurePosixPath(name[: square.start()] if square else name)
    return image.with_name("-".join([image.stem, *(square.groups() if square else ())]) + ".png")


def _save(path: Path, pixels: Pixels) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
