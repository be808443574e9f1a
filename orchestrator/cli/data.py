"""The verbs of data sets: list, check, stage."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import AsJson, Data, data_roots

verbs = typer.Typer(
    no_args_is_help=True, help="Data sets: which there are, whether a copy is whole, staging."
)
Partial = Annotated[bool, typer.Option("--partial", help="A copy with fewer images is meant.")]
SetName = Annotated[
    str, typer.Argument(metavar="NAME", help="E.g. Set5; `normsweep data list` has them.")
]


@verbs.command("list")
def data_list(data: Data = None, as_json: AsJson = False) -> int:
    """The data sets of the field: counts, terms of use, where to get them, and where yours lie."""
    from orchestrator.datasets.list import list_sets

    return list_sets(data_roots(data).all, as_json=as_json)


@verbs.command("check")
def data_check(
    name: SetName,
    place: Annotated[
        str,
        typer.Argument(metavar="PATH_OR_S3", help="The set's folder or prefix, or one above it."),
    ],
    partial: Partial = False,
) -> int:
    """Decode every image; check counts, pairs, sizes and kept checksums; tell all problems at once, per file."""
    from orchestrator.datasets.check import check_set

    return check_set(name, place, partial=partial)


@verbs.command("stage")
def data_stage(
    name: SetName,
    source: Annotated[str, typer.Option("--from", metavar="PATH_OR_S3", help="Where a copy lies.")],
    to: Annotated[
        str, typer.Option("--to", metavar="PATH_OR_S3", help="The root below which NAME is put.")
    ],
    partial: Partial = False,
    reduced: Annotated[
        bool,
        typer.Option(
            "--reduced", help="Bring LR_bicubic/X2, ... as well, which `lr_mode: given` reads."
        ),
    ] = False,
) -> int:
    """Check a copy and bring it elsewhere, whole or not at all. Run again, it continues."""
    from orchestrator.datasets.stage import stage_set

    return stage_set(name, source, to, partial=partial, reduced=reduced)
