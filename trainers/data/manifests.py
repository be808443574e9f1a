"""Which images a data set is: names and checksums. Pure: reads no image, so planning can ask.

The embedded sets are photographs inside the installed scikit-image wheel, listed in `embedded.json` beside this file and
split by name. Any other name is a folder ROOT/<name> or ROOT/*/<name>, its images in it or in its HR/; or pairs of images in
its input/ (LQ) and target/ (GT), which go together by name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
ROOTS_VARIABLE = "NORMSWEEP_DATA"


class DatasetProblem(ValueError):
    """A data set that is missing or not what it should be; the message names every file it is about."""


@dataclass(frozen=True)
class ImageSet:
    """A data set before decoding: where it lies, and its files as (name relative to `root`, sha256 of the bytes).

    `lq_files` are the partners of `files` in the same order, where the set has pairs.
    """

    name: str
    root: Path
    files: tuple[tuple[str, str], ...]
    lq_files: tuple[tuple[str, str], ...] = ()

    @property
    def sha256(self) -> str:
        """Of the manifest: the files' names and checksums."""
        manifest = [self.files, self.lq_files] if self.lq_files else self.files
        return hashlib.sha256(json.dumps(manifest, separators=(",", ":")).encode()).hexdigest()


def embedded_names() -> tuple[str, ...]:
    return tuple(_embedded())


def find_set(name: str, roots: Sequence[Path]) -> ImageSet:
    """The set of this name, embedded or under one of `roots` (then NORMSWEEP_DATA). Raises DatasetProblem."""
    embedded = _embedded()
    if name in embedded:
        return ImageSet(name, _photographs(), tuple(sorted(embedded[name].items())))
    searched = [*roots, *(Path(p) for p in os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if p)]
    for root in searched:
        for folder in (root / name, *sorted(root.glob(f"*/{name}"))):
            if folder.is_dir():
                return _read_folder(name, folder / "HR" if (folder / "HR").is_dir() else folder)
    looked = (
        ", ".join(f"{root}/{name}, {root}/*/{name}" for root in searched)
        or f"nowhere: give --data ROOT or {ROOTS_VARIABLE}"
    )
    raise DatasetProblem(f"no data set {name!r}. Embedded: {', '.join(embedded)}. Looked in: {looked}.")


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


def _read_folder(name: str, folder: Path) -> ImageSet:
    problems: list[str] = []
    if (folder / "input").is_dir() and (folder / "target").is_dir():
        gt, lq = (_files_below(folder / side, folder, problems) for side in ("target", "input"))
        partners = {Path(path).stem: (path, sha256) for path, sha256 in lq}
        problems += [f"{folder / path}: has no partner in input/" for path, _ in gt if Path(path).stem not in partners]
        names = {Path(path).stem for path, _ in gt}
        problems += [f"{folder / path}: has no partner in target/" for path, _ in lq if Path(path).stem not in names]
        found = ImageSet(name, folder, gt, tuple(partners[Path(p).stem] for p, _ in gt if Path(p).stem in partners))
    else:
        found = ImageSet(name, folder, _files_below(folder, folder, problems))
    if problems:
        raise DatasetProblem(f"data set {name!r}:\n  " + "\n  ".join(problems))
    if not found.files:
        raise DatasetProblem(f"data set {name!r}: {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def _files_below(folder: Path, root: Path, problems: list[str]) -> tuple[tuple[str, str], ...]:
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES):
        try:
            with path.open("rb") as file:
                files.append((path.relative_to(root).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
    return tuple(files)
