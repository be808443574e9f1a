"""What the shell offers at a Tab: ids of trials, names of data sets and of norms.

It has to answer at once, so only a store in a folder is looked into, and no more than listed.
"""

from __future__ import annotations

import os
import re

import typer

ID = re.compile(r"[0-9a-f]{16}")


def trials(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of the store's trials that begin so. A store on S3 is too far away to ask."""
    store = str(ctx.params.get("store") or "runs").removeprefix("file://")
    try:
        found = [] if "://" in store else os.listdir(os.path.join(store, "trials"))
    except OSError:  # there is none yet, or it may not be read: nothing to offer
        return []
    given = set(ctx.params.get("trials") or ())
    return sorted(
        name
        for name in found
        if name.startswith(incomplete) and ID.fullmatch(name) and name not in given
    )


def sets(incomplete: str) -> list[str]:
    """The names of known data sets that begin so."""
    from trainers.data.datasets import DATASETS
    from trainers.data.embedded import embedded_names

    names = dict.fromkeys([*(known.name for known in DATASETS.values()), *embedded_names()])
    return [name for name in names if name.startswith(incomplete)]


def norms(incomplete: str) -> list[str]:
    """The names of the catalogue's norms that begin so."""
    from trainers.catalog import NORMS

    return [name for name in NORMS.names if name.startswith(incomplete)]
