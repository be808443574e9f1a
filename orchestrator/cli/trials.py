"""The verbs of a trial that has ended, and of a norm: export, evaluate, check-norm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete
from orchestrator.cli.options import STORE, AsJson, Data, StoreUri, data_roots

verbs = typer.Typer()


@verbs.command()
def export(
    trial: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL",
            help="A trial's id, the beginning of one, or its name.",
            autocompletion=complete.trials,
        ),
    ],
    to: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="The file to write.")],
    store: StoreUri = STORE,
) -> int:
    """Write a finished trial's EMA weights and spec to one safetensors file."""
    from orchestrator.export import export_trial

    export_trial(store, trial, to)
    return 0


@verbs.command()
def evaluate(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL_OR_FILE",
            help="A trial's id, the beginning of one, or its name; or an exported file.",
            autocompletion=complete.trials,
        ),
    ],
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET",
            help="A data set; repeatable. Default: the trial's own.",
            autocompletion=complete.sets,
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32, bf16, fp16, fp16_literal, int8, int4 or all; repeatable. Default: fp32."
        ),
    ] = None,
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="For int8 and int4: a step for each channel.")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="PX", help="Restore in tiles of PX LQ pixels; the scores record it."
        ),
    ] = None,
    overlap: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Context around each tile, in LQ pixels.")
    ] = 16,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write restored images here.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to share the images among.")] = 1,
    store: StoreUri = STORE,
    as_json: AsJson = False,
    data: Data = None,
) -> int:
    """Score final weights on benchmarks at any precision, whole images unless --tile is given.

    Each image's score is kept.
    """
    from orchestrator.evaluate import EvaluateOptions, evaluate_checkpoint

    options = EvaluateOptions(
        tuple(benchmark or ()),
        tuple(precision or ("fp32",)),
        store,
        per_channel=per_channel,
        tile_px=tile,
        overlap_px=overlap,
        workers=workers,
        save=save,
        data_roots=data_roots(data).given,
        json_lines=as_json,
    )
    return evaluate_checkpoint(subject, options)


@verbs.command("check-norm")
def check_norm_(
    norm: Annotated[
        str,
        typer.Argument(
            metavar="NORM",
            help="A name in the catalogue, or package.module:Class.",
            autocompletion=complete.norms,
        ),
    ],
    knobs: Annotated[str, typer.Option(help="Its knobs, as YAML: '{eps: 1.0e-4}'.")] = "{}",
) -> int:
    """Run the conformance suite on a norm, built in or yours, and print which checks hold."""
    from orchestrator.check_norm import check_norm

    return check_norm(norm, knobs)
