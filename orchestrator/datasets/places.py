"""Where a data set is below a root that is a folder or an S3 prefix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orchestrator.objects import Prefix, is_s3
from trainers.data.places import places


def folders_below(place: str) -> list[str]:
    if is_s3(place):
        return Prefix(place).folders()
    return (
        sorted(path.name for path in Path(place).iterdir() if path.is_dir())
        if Path(place).is_dir()
        else []
    )


class Folders:
    """The names of the folders directly below a place; each place is listed only once."""

    def __init__(self) -> None:
        self._below: dict[str, list[str]] = {}

    def below(self, place: str) -> list[str]:
        if place not in self._below:
            self._below[place] = folders_below(place)
        return self._below[place]


def places_below(root: str, name: str, folders: Folders) -> Iterator[str]:
    """`trainers.data.places.places` below this root."""

    def is_folder(path: str) -> bool:
        above, _, last = f"{root}/{path}".rpartition("/")
        return last in folders.below(above)

    return places(name, folders.below(root), is_folder)


def first_place(name: str, root: str, folders: Folders) -> str | None:
    """The first place below `root` that has one of the set's names."""
    found = next(places_below(root, name, folders), None)
    return None if found is None else f"{root}/{found}"
