"""The verb that makes something to start from: new-norm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

verbs = typer.Typer()


@verbs.command("new-norm")
def new_norm_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its module, such as my_norm.")],
) -> int:
    """Write a working norm of your own, NAME.py, and its test; say which commands follow."""
    from orchestrator.new_norm import new_norm

    print(new_norm(name, Path.cwd()))
    return 0
