"""The verbs of the trials in a store: trials."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import STORE, AsJson, Data, StoreUri, finder, weights
from orchestrator.errors import UserError

verbs = typer.Typer()


@verbs.command()
def trials(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A sweep file. Default: every trial of the store."),
    ] = None,
    store: StoreUri = STORE,
    as_json: AsJson = False,
    data: Data = None,
) -> int:
    """List trials: state, step, newest metric, age and size. Names damaged files; only reads."""
    from orchestrator.plan import load_plan
    from orchestrator.trials import table

    planned = None if file is None else load_plan(file, finder(data), weights(store, check=False))
    from orchestrator.store import read_store

    if planned is None:
        check_there(store)
    opened = read_store(store)
    found = table.rows(opened, planned)
    if as_json:
        print(json.dumps(table.as_json(opened.uri, found), indent=2, allow_nan=False))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(table.as_text(opened.uri, found, width))
    return 0


def check_there(store: str) -> None:
    """Raise UserError if the store is a folder that does not exist, instead of an empty answer."""
    folder = store.removeprefix("file://")
    if "://" not in folder and not Path(folder).exists():
        raise UserError(
            f"There is no store {Path(folder).absolute()}. "
            "Give --store, a folder or s3://BUCKET/PREFIX."
        )
