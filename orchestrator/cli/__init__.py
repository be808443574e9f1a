"""The command line: parse, call, print, exit code. Anything heavy is imported by the verb that needs it."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import cluster, data
from orchestrator.cli.exits import exit_code
from orchestrator.cli.options import (
    NAMESPACE,
    STORE,
    TRACKING,
    AsJson,
    Context,
    Data,
    File,
    Namespace,
    StoreUri,
    TrackingUri,
    data_roots,
    finder,
    weights,
)
from orchestrator.errors import EnvironmentProblem, NormsweepError, UserError
from orchestrator.streams import guard, lost_output
from orchestrator.tracking.address import leave_process_list

if TYPE_CHECKING:
    from orchestrator.plan import Plan
    from orchestrator.plan.states import State
    from orchestrator.run.runner import Ended

app = typer.Typer(
    name="normsweep",
    help="Sweeps over normalisation layers in image-restoration Transformers: one YAML file in, a report out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cluster.verbs)
app.add_typer(data.verbs, name="data")


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sweep files.")],
    store: StoreUri = STORE,
    data: Data = None,
) -> int:
    """Check sweep files; every problem of every file, with line and caret."""
    from orchestrator.plan import load_plan, show

    problems = []
    find = finder(data)
    for file in files:
        try:
            plan = load_plan(file, find, weights(store))
        except UserError as error:
            problems.append(str(error))
        else:
            print(f"{file}: ok: sweep {plan.sweep}, {show.trials_in_words(len(plan.trials))}")
            for warning in plan.warnings:
                print(warning, file=sys.stderr)
    if problems:
        raise UserError("\n".join(problems))
    return 0


@app.command()
def plan(
    file: File,
    as_json: AsJson = False,
    diff: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="Compare two trials of the file, field by field.")
    ] = None,
    store: StoreUri = STORE,
    no_state: Annotated[bool, typer.Option("--no-state", help="Do not look into the store.")] = False,
    data: Data = None,
) -> int:
    """Show a sweep's trials: what each is, what it costs, what is done already, and why a point is left out."""
    from orchestrator.plan import gpus, load_plan, show

    planned = load_plan(file, finder(data), weights(store))
    if diff is not None:
        print(show.difference(planned, *diff))
        return 0
    states: dict[str, State] = {}
    damage: list[str] = []
    if not no_state:
        from orchestrator.store.trials import damage_in_words, looks_at_plan

        looks = looks_at_plan(store, planned)
        states, damage = {look.trial: look.state for look in looks.values()}, damage_in_words(looks.values())
    here = gpus.of_this_machine()
    if as_json:
        print(json.dumps({**show.as_json(planned, states, here), "damage": damage}, indent=2))
    else:
        print("\n".join([show.as_text(planned, states, here), *damage]))
    return 0


@app.command()
def run(
    file: File,
    store: StoreUri = STORE,
    tracking: TrackingUri = TRACKING,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; default: a local one.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Trials at a time, at most.")] = None,
    auto_gpus: Annotated[
        int | None,
        typer.Option(min=0, max=1, help="What `gpus_per_worker: auto` is. Default: 1 where a node has GPUs, else 0."),
    ] = None,
    join_deadline_s: Annotated[
        float, typer.Option(min=0, help="With --address: how long workers may take to join.")
    ] = 300.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only problems and the summary.")] = False,
    as_json: AsJson = False,
    data: Data = None,
    for_job: Annotated[
        str | None, typer.Option(metavar="JOB", help="In a cluster's job: its outcome goes to the store.")
    ] = None,
) -> int:
    """Train what the store does not hold yet, then write the report. Run again, it continues."""
    from orchestrator.plan import load_plan
    from orchestrator.run.driver import drive

    this_run = f"{platform.node()}-{os.getpid()}-{time.time_ns()}"

    def planned() -> Plan:
        return load_plan(file, finder(data), weights(store))

    def train() -> Ended:
        plan = planned()
        from orchestrator.run.options import RunOptions
        from orchestrator.run.runner import run_sweep

        options = RunOptions(
            store=store,
            tracking=tracking,
            address=address,
            max_concurrent=max_concurrent,
            auto_gpus=auto_gpus,
            join_deadline_s=join_deadline_s,
            quiet=quiet,
            json_lines=as_json,
            data_roots=data_roots(data).given,
            run=this_run,
            job=for_job or "",
        )
        return run_sweep(plan, options)

    def work() -> int:
        if for_job is None:
            return train().exit_code
        from orchestrator.run.for_job import run_for_job

        return run_for_job(for_job, store, train)

    def close(kind: str, message: str) -> None:
        with suppress(NormsweepError):
            from orchestrator.store import open_store
            from orchestrator.store.closing import close_attempts

            ids = [trial.id for trial in planned().trials]
            close_attempts(open_store(store), ids, this_run, kind, message)

    return drive(lambda: exit_code(work), close)


@app.command()
def status(
    file: Annotated[Path, typer.Argument(metavar="FILE_OR_JOB", help="A sweep file, or a job's or sweep's name.")],
    store: StoreUri = STORE,
    as_json: AsJson = False,
    data: Data = None,
    context: Context = None,
    namespace: Namespace = NAMESPACE,
) -> int:
    """How far a sweep is, from the store alone; or, by the name of a job, what it is doing on the cluster."""
    if not file.is_file() and file.suffix == "":
        from orchestrator.cluster.follow import show_job
        from orchestrator.cluster.kube import Kube

        return show_job(Kube(context, namespace), str(file), store)
    from orchestrator.plan import load_plan, show
    from orchestrator.store.trials import damage_in_words, looks_at_plan

    planned = load_plan(file, finder(data), weights(store, check=False))
    looks = looks_at_plan(store, planned)
    counts = show.counts(planned, {look.trial: look.state for look in looks.values()})
    damage = damage_in_words(looks.values())
    notes = [f"{trial.name}: {note}" for trial in planned.trials if (note := looks[trial.id].note)]
    if as_json:
        print(json.dumps({**counts, "notes": notes, "damage": damage}))
    else:
        print("\n".join(["  ".join(f"{name} {value}" for name, value in counts.items()), *notes, *damage]))
    return 0


@app.command()
def report(
    file: File,
    store: StoreUri = STORE,
    tracking: TrackingUri = TRACKING,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: STORE/sweeps/NAME/report.")] = None,
    data: Data = None,
) -> int:
    """Write the report of a sweep: HTML, Markdown and CSV."""
    from orchestrator.plan import load_plan
    from orchestrator.report.page import write_report

    print(write_report(load_plan(file, finder(data), weights(store, check=False)), store, tracking, out).page)
    return 0


@app.command()
def sync(file: File, store: StoreUri = STORE, tracking: TrackingUri = TRACKING, data: Data = None) -> int:
    """Bring MLflow up to what the store holds, e.g. after its server was away."""
    from orchestrator.plan import load_plan

    planned = load_plan(file, finder(data), weights(store, check=False))
    from orchestrator.tracking.mlflow import sync_sweep

    for note in sync_sweep(planned, store, tracking):
        print(note, file=sys.stderr)
    return 0


@app.command()
def export(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial id, or its unique beginning.")],
    to: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="Where the network goes.")],
    store: StoreUri = STORE,
) -> int:
    """Write a finished trial's EMA weights and spec to one safetensors file."""
    from orchestrator.export import export_trial

    export_trial(store, trial, to)
    return 0


@app.command()
def evaluate(
    subject: Annotated[
        str, typer.Argument(metavar="TRIAL_OR_FILE", help="A trial id, or its unique beginning; or an exported file.")
    ],
    benchmark: Annotated[
        list[str] | None, typer.Option(metavar="SET", help="A data set; repeatable. Default: the trial's own.")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, bf16, fp16, fp16_literal, int8, int4 or all; repeatable. Default: fp32."),
    ] = None,
    per_channel: Annotated[bool, typer.Option("--per-channel", help="int8, int4: a step for each channel.")] = False,
    tile: Annotated[int | None, typer.Option(min=1, metavar="PX", help="In tiles of PX LQ pixels; recorded.")] = None,
    overlap: Annotated[int, typer.Option(min=0, metavar="PX", help="What a tile sees around it.")] = 16,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Where restored images go.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the images out.")] = 1,
    store: StoreUri = STORE,
    as_json: AsJson = False,
    data: Data = None,
) -> int:
    """Score final weights on benchmarks, whole images, at any precision; each image's score is kept."""
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


@app.command("check-norm")
def check_norm_(
    norm: Annotated[str, typer.Argument(metavar="NORM", help="A name of the catalogue, or package.module:Class.")],
    knobs: Annotated[str, typer.Option(help="Its knobs, as YAML: '{eps: 1.0e-4}'.")] = "{}",
) -> int:
    """Run the conformance suite on a norm, also on one of your own, and print what holds and what does not."""
    from orchestrator.check_norm import check_norm

    return check_norm(norm, knobs)


@app.command()
def doctor(store: StoreUri = STORE, tracking: TrackingUri = TRACKING) -> int:
    """Look at versions, devices, store and tracking, and say what to do about each problem."""
    from orchestrator.doctor import run_doctor

    return run_doctor(store, tracking)


@app.command()
def ui(
    tracking: TrackingUri = TRACKING,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> int:
    """Print and run the MLflow server that shows the runs."""
    from orchestrator.ui import run_ui

    return run_ui(tracking, host, port)


def main() -> int:
    """The command; its exit codes are those of orchestrator.errors."""
    guard()
    leave_process_list(sys.argv[1:])
    try:
        os.getcwd()
    except FileNotFoundError:
        print("The working folder does not exist any more: go to one that does.", file=sys.stderr)
        return UserError.exit_code
    code = exit_code(lambda: app(standalone_mode=False))
    if (lost := lost_output()) is not None:
        print(lost, file=sys.stderr)
        return code or EnvironmentProblem.exit_code
    return code
