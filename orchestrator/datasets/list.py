"""`normsweep data list`: the sets of the field, and where they are here."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from orchestrator.datasets.places import Folders, first_place
from trainers.data.datasets import DATASETS, Dataset, dataset
from trainers.data.embedded import embedded_names


def list_sets(roots: Sequence[str], *, as_json: bool = False) -> int:
    """Print what is known about each set, and where it is below `roots` (folders, S3 prefixes)."""
    rows: list[dict[str, Any]] = []
    folders = Folders()
    for known in DATASETS.values():
        row = vars(known) | {
            "found": _first_found(known, roots, folders),
            "layouts": list(map(str, known.layouts)),
        }
        rows.append(row | {"crops_px": dict(known.crops_px)})
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=False, emoji=False)
    for row in rows:
        layouts = ", ".join(dict.fromkeys(row["layouts"]))
        names = f" (also {', '.join(row['also_named'])})" if row["also_named"] else ""
        parts = f" {' and '.join(row['parts'])}, or" if row["parts"] else ""
        about = f"{names}: {' or '.join(map(str, row['images']))} images. {row['about']}"
        console.print(Text.assemble((row["name"], "bold"), about))
        for key in ("note", "terms", "page"):
            if row[key]:
                console.print(f"  {key:7}{row[key]}")
        if row["name"] in embedded_names():
            console.print("  here   in the installed wheel")
            continue
        console.print(f"  layout{parts} {layouts}")
        console.print(f"  here   {row['found'] or 'no'}")
    return 0


def _first_found(known: Dataset, roots: Sequence[str], folders: Folders) -> str | None:
    """The place of the set, or the places of all the sets that it is made of."""
    here = next(filter(None, (first_place(known.name, root, folders) for root in roots)), None)
    if here is not None or not known.parts:
        return here
    parts = [_first_found(dataset(part), roots, folders) for part in known.parts]
    return None if None in parts else " and ".join(filter(None, parts))
