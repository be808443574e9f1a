"""The verbs of a trial that has ended, and of a norm: export, evaluate, check-norm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete
from orchestrator.cli.options import (
    STORE,
    TRACKING,
    Address,
    AsJson,
    AutoGpus,
    Data,
    Quiet,
    StoreUri,
    TrackingUri,
    data_roots,
)
from orchestrator.cli.stores import check_store
from orchestrator.errors import UserError

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

    check_store(store)
    export_trial(store, trial, to)
    return 0


Benchmarks = Annotated[
    list[str] | None,
    typer.Option(
        "--benchmark",
        metavar="SET",
        help="A data set; repeatable. Default: its own.",
        autocompletion=complete.sets,
    ),
]
Precisions = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        help="fp32, bf16, fp16, fp16_literal, int8, int4 or all; repeatable. Default: fp32.",
    ),
]
PerChannel = Annotated[
    bool, typer.Option("--per-channel", help="For int8 and int4: a step for each channel.")
]
Tile = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="PX", help="Restore in tiles of PX LQ pixels; the scores record it."
    ),
]
Overlap = Annotated[
    int, typer.Option(min=0, metavar="PX", help="Context around each tile, in LQ pixels.")
]
Save = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Of a trial: write restored images here.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Of a trial: processes to share the images among (1). Of a sweep: evaluations at a "
        "time (as many as there are GPUs, or cores).",
    ),
]

Subject = Annotated[
    str,
    typer.Argument(
        metavar="TRIAL_OR_FILE",
        help="A trial's id, the beginning of one, or its name; an exported file; or a sweep "
        "file for all its trials.",
        autocompletion=complete.trials,
    ),
]


@verbs.command()
def evaluate(
    subject: Subject,
    benchmark: Benchmarks = None,
    precision: Precisions = None,
    per_channel: PerChannel = False,
    tile: Tile = None,
    overlap: Overlap = 16,
    save: Save = None,
    workers: Workers = None,
    store: StoreUri = STORE,
    tracking: TrackingUri = TRACKING,
    address: Address = None,
    auto_gpus: AutoGpus = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    data: Data = None,
) -> int:
    """Score final weights on benchmarks at any precision, whole images unless --tile is given.

    Each image's score is kept. For a sweep file, what the store has already is skipped.
    """
    from orchestrator.evaluate import EvaluateOptions, evaluate_checkpoint

    options = EvaluateOptions(
        tuple(benchmark or ()),
        tuple(precision or ("fp32",)),
        store,
        per_channel=per_channel,
        tile_px=tile,
        overlap_px=overlap,
        save=save,
        data_roots=data_roots(data).given,
        json_lines=as_json,
    )
    if Path(subject).suffix in (".yaml", ".yml"):
        from orchestrator.cli.evaluations import evaluate_sweep_file
        from orchestrator.tracking.address import tracking_of

        check_store(store)
        flags = (tracking_of(store, tracking), address, workers, auto_gpus)
        return evaluate_sweep_file(Path(subject), data, options, flags, quiet=quiet)
    if address is not None or auto_gpus is not None:
        raise UserError("--address and --auto-gpus are for a sweep file.")
    if not Path(subject).is_file():
        check_store(store)
    return evaluate_checkpoint(subject, replace(options, workers=workers or 1))


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
