"""The walk over a data set's folder: its files, links to folders followed, and everything that was left out named."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from trainers.data.finder import has_image_suffix, is_junk


@dataclass
class Walked:
    """Paths below a folder, `/` between their parts: what looks like an image, and images that nobody meant to lie there.

    `skipped` says which links were not followed, `problems` what cannot be looked into.
    """

    images: list[str] = field(default_factory=list)
    junk: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def walk(folder: Path) -> Walked:
    """Every image file below `folder`, through links to folders, each folder once: a link back into it is not followed.

    Folders come before links, so that what can be reached in both ways has the name of its own place.
    """
    walked = Walked()
    visited: set[str] = set()
    waiting = deque([folder])
    links: deque[Path] = deque()
    while waiting or links:
        place = waiting.popleft() if waiting else links.popleft()
        real = os.path.realpath(place)
        name = place.relative_to(folder).as_posix()
        if real in visited or _above(real, os.path.realpath(folder)):
            walked.skipped.append(f"{place} leads to {real}, which is looked into already")
            continue
        visited.add(real)
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            walked.problems.append(f"{place}: cannot be looked into: {error.strerror}")
            continue
        for entry in entries:
            path = Path(entry.path)
            below = entry.name if name == "." else f"{name}/{entry.name}"
            if is_junk(below):
                walked.junk += _images_in(path, below)
            elif has_image_suffix(
                path
            ):  # also a folder of such a name, or a link to nowhere: told when it is read
                walked.images.append(below)
            elif path.is_dir():
                (links if entry.is_symlink() else waiting).append(path)
            elif entry.is_symlink() and not path.exists():
                walked.problems.append(
                    f"{path}: is a link to {os.readlink(path)}, where there is nothing"
                )
    return walked


def _above(real: str, folder: str) -> bool:
    """Whether a link leads to a folder that holds the set's: there is no end to what could be found from there."""
    return folder.startswith(f"{real.rstrip(os.sep)}{os.sep}")


def _images_in(path: Path, below: str) -> list[str]:
    """The images in what is left out, as many as can be seen."""
    if not path.is_dir():
        return [below] if has_image_suffix(path) else []
    if path.is_symlink():
        return []
    return [
        f"{below}{os.path.join(top, file).removeprefix(str(path))}"
        for top, _, files in os.walk(path)
        for file in sorted(files)
        if has_image_suffix(file)
    ]
