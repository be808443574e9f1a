"""The walk over a data set's folder: follows links to folders, and names all that is left out."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from trainers.data.finder import has_image_suffix, is_junk


@dataclass
class Walked:
    """The files that a walk has found below a folder, as paths with `/` between their parts.

    `images` look like images; `junk` are images that nobody meant to be there. `skipped` says which
    links were not followed, and `problems` what could not be opened.
    """

    images: list[str] = field(default_factory=list)
    junk: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def walk(folder: Path) -> Walked:
    """Find every image file below `folder`, also through links to folders.

    Each folder is entered once, so a link back into `folder` is not followed. Folders come before
    links, so that a file that can be reached both ways gets the name of its real place.
    """
    walked = Walked()
    visited: set[str] = set()
    waiting = deque([folder])
    links: deque[Path] = deque()
    while waiting or links:
        place = waiting.popleft() if waiting else links.popleft()
        real = os.path.realpath(place)
        name = place.relative_to(folder).as_posix()
        if (above := _above(real, os.path.realpath(folder))) or real in visited:
            why = "contains the set" if above else "has been searched already"
            walked.skipped.append(f"{place} leads to {real}, which {why}")
            continue
        visited.add(real)
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            walked.problems.append(f"{place}: cannot be opened: {error.strerror}")
            continue
        for entry in entries:
            path = Path(entry.path)
            below = entry.name if name == "." else f"{name}/{entry.name}"
            if is_junk(below):
                walked.junk += _images_in(path, below)
            elif has_image_suffix(path):
                # Perhaps a folder with such a name, or a link to nowhere: reported when it is read.
                walked.images.append(below)
            elif path.is_dir():
                (links if entry.is_symlink() else waiting).append(path)
            elif entry.is_symlink() and not path.exists():
                walked.problems.append(
                    f"{path}: is a link to {os.readlink(path)}, which does not exist"
                )
    return walked


def _above(real: str, folder: str) -> bool:
    """Return whether a link leads above the set's folder, where the walk could find anything."""
    return folder.startswith(f"{real.rstrip(os.sep)}{os.sep}")


def _images_in(path: Path, below: str) -> list[str]:
    """The images in a path that is left out, as far as they can be listed."""
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
