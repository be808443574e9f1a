"""Where a data set lies below a root: ROOT/<name>, then ROOT/*/<name>, by any of its names.

The one rule for folders, S3 prefixes and whatever else can say which folders it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from trainers.data.datasets import dataset
from trainers.data.finder import is_junk

MIRRORS = ("LR", "LRBI")  # RCAN's, which hold reduced copies of what lies in HR/


def places(name: str, top: Iterable[str], is_folder: Callable[[str], bool]) -> Iterator[str]:
    """The paths below a root at which a folder has one of the set's names, most likely ones first.

    `top` are the names of what lies right below the root; `is_folder` is asked of paths below it.
    """
    groups = [group for group in sorted(top) if not is_junk(group) and group not in MIRRORS]
    for alias in names_of(name):
        candidates = (alias, *(f"{group}/{alias}" for group in groups))
        yield from (path for path in candidates if is_folder(path))


def places_in(name: str, root: Path) -> Iterator[Path]:
    """`places` below a folder. A root that is missing, or cannot be listed, has no groups."""
    top = [path.name for path in root.glob("*")]
    return (root / place for place in places(name, top, lambda path: (root / path).is_dir()))


def looked_for(name: str, root: object) -> str:
    """Where `places` looks, in words."""
    return ", ".join(f"{root}/{alias}, {root}/*/{alias}" for alias in names_of(name))


def names_of(name: str) -> tuple[str, ...]:
    """The name of a set, and what it is also called."""
    return (name, *dataset(name).also_named)
