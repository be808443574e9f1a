"""The verbs of a trial that has ended, and of a norm: export, evaluate, check-norm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete
from orchestrator.cli.flags import RayFlags, spread
from orchestrator.cli.options import STORE, StoreUri, TrialName, data_roots, of_trials
from orchestrator.cli.stores import check_store
from orchestrator.errors import UserError

verbs = typer.Typer()


@verbs.command()
def export(
    trial: TrialName,
    to: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="The file to write.")],
    store: StoreUri = STORE,
) -> int:
    """Write a finished trial's EMA weights and spec to one safetensors file."""
    from orchestrator.export import export_trial

    check_store(store)
    export_trial(store, trial, to)
    return 0


Subject = Annotated[
    str,
    of_trials(
        "TRIAL_OR_FILE",
        "A trial's id, the beginning of one, or its name; an exported file; or a sweep file for "
        "all its trials.",
    ),
]


@dataclass(frozen=True)
class ScoringFlags:
    """What is scored, and how."""

    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            metavar="SET",
            help="A data set; repeatable. Default: its own.",
            autocompletion=complete.sets,
        ),
    ] = None
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            help="fp32, bf16, fp16, fp16_literal, int8, int4 or all; repeatable. Default: fp32.",
        ),
    ] = None
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="For int8 and int4: a step for each channel.")
    ] = False
    tile: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="PX", help="Restore in tiles of PX LQ pixels; the scores record it."
        ),
    ] = None
    overlap: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Context around each tile, in LQ pixels.")
    ] = 16
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of a trial: write restored images here.")
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of a trial: processes to share the images among (1). Of a sweep: evaluations at "
            "a time (as many as there are GPUs, or cores).",
        ),
    ] = None


@verbs.command()
@spread
def evaluate(subject: Subject, scoring: ScoringFlags, flags: RayFlags) -> int:
    """Score final weights on benchmarks at any precision, whole images unless --tile is given.

    Each image's score is kept. For a sweep file, what the store has already is skipped.
    """
    from orchestrator.evaluate import EvaluateOptions, evaluate_checkpoint

    options = EvaluateOptions(
        tuple(scoring.benchmark or ()),
        tuple(scoring.precision or ("fp32",)),
        flags.store,
        per_channel=scoring.per_channel,
        tile_px=scoring.tile,
        overlap_px=scoring.overlap,
        save=scoring.save,
        data_roots=data_roots(flags.data).given,
        json_lines=flags.as_json,
    )
    if Path(subject).suffix in (".yaml", ".yml"):
        from orchestrator.cli.evaluations import evaluate_sweep_file

        check_store(flags.store)
        run = flags.options(max_concurrent=scoring.workers)
        return evaluate_sweep_file(Path(subject), flags.data, options, run)
    if flags.address is not None or flags.auto_gpus is not None:
        raise UserError("--address and --auto-gpus are for a sweep file.")
    if not Path(subject).is_file():
        check_store(flags.store)
    return evaluate_checkpoint(subject, replace(options, workers=scoring.workers or 1))


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
