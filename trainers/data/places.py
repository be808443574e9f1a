"""Where a data set is below a root: ROOT/<name>, then ROOT/*/<name>, by any of its names.

The one rule for folders, S3 prefixes and anything else that can list its folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from trainers.data.datasets import dataset
from trainers.data.finder import is_junk

MIRRORS = ("LR", "LRBI")  # RCAN's, which hold reduced copies of the sets in HR/


def places(name: str, top: Iterable[str], is_folder: Callable[[str], bool]) -> Iterator[str]:
    """The paths below a root where a folder has one of the set's names, the most likely first.

    `top` lists the names directly below the root; `is_folder` is called with paths below it.
    """
    groups = [group for group in sorted(top) if not is_junk(group) and group not in MIRRORS]
    for alias in names_of(name):
        candidates = (alias, *(f"{group}/{alias}" for group in groups))
        yield from (path for path in candidates if is_folder(path))


def places_in(name: str, root: Path) -> Iterator[Path]:
    """`places` below a folder. If it is missing or cannot be listed, only ROOT/<name> is tried."""
    top = [path.name for path in root.glob("*")]
    return (root / place for place in places(name, top, lambda path: (root / path).is_dir()))


def looked_for(name: str, root: object) -> str:
    """The places where `places` looks, in words."""
    return ", ".join(f"{root}/{alias}, {root}/*/{alias}" for alias in names_of(name))


def names_of(name: str) -> tuple[str, ...]:
    """The name of a set and its other names."""
    return (name, *dataset(name).also_named)
