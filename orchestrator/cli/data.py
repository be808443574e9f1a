"""The verbs of data sets: list, check, stage."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import complete
from orchestrator.cli.options import AsJson, Data, data_roots

verbs = typer.Typer(
    no_args_is_help=True, help="List the known data sets, check copies of them, and stage them."
)
Partial = Annotated[
    bool, typer.Option("--partial", help="The copy has fewer images than the set, on purpose.")
]
SetName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="E.g. Set5; see `normsweep data list`.",
        autocompletion=complete.sets,
    ),
]


@verbs.command("list")
def data_list(data: Data = None, as_json: AsJson = False) -> int:
    """List the field's data sets: counts, terms of use, where to get them, where yours are."""
    from orchestrator.datasets.list import list_sets

    return list_sets(data_roots(data).all, as_json=as_json)


@verbs.command("check")
def data_check(
    name: SetName,
    place: Annotated[
        str,
        typer.Argument(
            metavar="PATH_OR_S3", help="The set's folder or S3 prefix, or one above it."
        ),
    ],
    partial: Partial = False,
) -> int:
    """Check a copy of a set and list all problems at once, by file.

    Decodes every image; checks counts, pairs, sizes and the checksums that were kept.
    """
    from orchestrator.datasets.check import check_set

    return check_set(name, place, partial=partial)


@verbs.command("stage")
def data_stage(
    name: SetName,
    source: Annotated[
        str, typer.Option("--from", metavar="PATH_OR_S3", help="Where the copy is now.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="PATH_OR_S3", help="The root to put NAME below.")
    ],
    partial: Partial = False,
    reduced: Annotated[
        bool,
        typer.Option(
            "--reduced", help="Also stage LR_bicubic/X2, ..., which `lr_mode: given` reads."
        ),
    ] = False,
) -> int:
    """Check a copy and put it elsewhere, whole or not at all. If run again, it continues."""
    from orchestrator.datasets.stage import stage_set

    return stage_set(name, source, to, partial=partial, reduced=reduced)
