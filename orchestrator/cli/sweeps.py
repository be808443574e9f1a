"""The verbs of a sweep: validate, plan, run, status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import signals
from orchestrator.cli.exits import exit_code
from orchestrator.cli.flags import RunFlags, spread
from orchestrator.cli.options import (
    NAMESPACE,
    STORE,
    AsJson,
    Context,
    Data,
    File,
    Gantt,
    Namespace,
    Simulate,
    StoreUri,
    claims_check,
    finder,
    weights,
)
from orchestrator.cli.stores import check_store, show_known
from orchestrator.collecting import rarely_from_now_on
from orchestrator.errors import NormsweepError, UserError

if TYPE_CHECKING:
    from orchestrator.plan import Gpus, Plan
    from orchestrator.plan.states import State
    from orchestrator.report.power.ask import Power, Question
    from orchestrator.run.options import RunOptions
    from orchestrator.store.ending import Ended
    from orchestrator.trials.why import Changed

verbs = typer.Typer()

Two = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="A B", help="Compare two trials of the file, field by field."),
]
OfPower = Annotated[
    float | None,
    typer.Option(
        metavar="DIFFERENCE",
        help="Say how many seeds would show this difference (0.05 dB), and what they cost.",
    ),
]


@verbs.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sweep files.")],
    store: StoreUri = STORE,
    data: Data = None,
) -> int:
    """Check sweep files and report every problem in every file, with line and caret."""
    from orchestrator.plan import load_plan, show

    problems = []
    find = finder(data)
    for file in files:
        try:
            plan = load_plan(file, find, weights(store), check_claims=claims_check())
        except UserError as error:
            problems.append(str(error))
        else:
            print(f"{file}: ok: sweep {plan.sweep}, {show.trials_in_words(len(plan.trials))}")
            for warning in plan.warnings:
                print(warning, file=sys.stderr)
    if problems:
        raise UserError("\n".join(problems))
    return 0


@verbs.command()
def plan(
    file: File,
    as_json: AsJson = False,
    diff: Two = None,
    store: StoreUri = STORE,
    no_state: Annotated[bool, typer.Option("--no-state", help="Do not read the store.")] = False,
    data: Data = None,
    power: OfPower = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --power: psnr (the default), ssim.")
    ] = None,
    simulate: Simulate = None,
    gantt: Gantt = None,
) -> int:
    """Show a sweep's trials: what each is and costs, what is done, and why points are left out."""
    from orchestrator.plan import gpus, load_plan, show

    asked = _asked(power, metric, reads_store=not no_state, is_alone=diff is None)
    if gantt is not None and simulate is None:
        raise UserError("--gantt needs --simulate.")
    planned = load_plan(file, finder(data), weights(store), check_claims=claims_check())
    if simulate is not None:
        from orchestrator.cli.simulating import show_simulated

        return show_simulated(
            planned, None if no_state else store, simulate, gantt, as_json=as_json
        )
    if diff is not None:
        print(show.difference(planned, *diff))
        return 0
    states, damage, changed = ({}, [], []) if no_state else _kept(planned, store)
    here = gpus.of_this_machine()
    answers = None if asked is None else _power(planned, store, here, asked)
    if as_json:
        document = {**show.as_json(planned, states, here), "damage": damage}
        if changed:
            from orchestrator.trials.why import as_json as changes_as_json

            document["changed"] = changes_as_json(changed)
        if answers is not None:
            from orchestrator.report.power.show import as_json as power_as_json

            document["power"] = power_as_json(answers)
        sys.stdout.writelines(show.indented(document))
        print()
    else:
        print("\n".join([show.as_text(planned, states, here), *_reasons(changed), *damage]))
        if answers is not None:
            from orchestrator.report.power.show import as_text as power_as_text

            print(f"\n{power_as_text(answers)}")
    return 0


def _kept(planned: Plan, store: str) -> tuple[dict[str, State], list[str], list[Changed]]:
    """What a store has of a plan: the states of trials, its damage, and what has changed."""
    from orchestrator.store import read_store
    from orchestrator.store.census import looks_at_plan
    from orchestrator.store.trials import damage_in_words
    from orchestrator.trials import why

    check_store(store, reads=False)
    looks, said = looks_at_plan(store, planned)
    if said:
        print(said, file=sys.stderr)
    states = {look.trial: look.state for look in looks.values()}
    changed = why.changed(read_store(store), planned, states)
    return states, damage_in_words(looks.values()), changed


def _reasons(changed: list[Changed]) -> list[str]:
    """Why trials are pending again, in words."""
    if not changed:
        return []
    from orchestrator.trials.why import as_text

    return as_text(changed)


def _asked(
    power: float | None, metric: str | None, *, reads_store: bool, is_alone: bool
) -> Question | None:
    """The question of `plan --power`. Raises UserError for flags that do not fit together."""
    if power is None:
        if metric is not None:
            raise UserError("--metric needs --power.")
        return None
    if not reads_store:
        raise UserError("--power needs the store's trials: leave out --no-state.")
    if not is_alone:
        raise UserError("--power and --diff are two questions: ask one at a time.")
    from orchestrator.report.power.ask import question

    return question(power, metric or "psnr")


def _power(planned: Plan, store: str, here: Gpus, asked: Question) -> Power:
    from orchestrator.plan import placed
    from orchestrator.report.power.ask import ask
    from orchestrator.store import read_store

    return ask(placed(planned, here, among=frozenset()), read_store(store), asked)


@verbs.command()
@spread
def run(file: File, flags: RunFlags) -> int:
    """Train what the store does not hold yet, then write the report. If run again, it continues."""
    from orchestrator.run.driver import drive

    options = flags.options()
    planned = partial(plan_to_run, file, flags.data, flags.store)
    return drive(
        lambda: exit_code(lambda: _run(planned, options)),
        partial(close_open_attempts, planned, options),
        settings=options,
    )


def plan_to_run(
    file: Path, data: list[str] | None, store: str, *, writes_baseline: bool = False
) -> Plan:
    """The plan of a file, its weights and claims checked. Raises UserError.

    With `writes_baseline` the file of its gate's baseline need not exist yet.
    """
    from orchestrator.plan import load_plan

    return load_plan(
        file,
        finder(data),
        weights(store),
        writes_baseline=writes_baseline,
        check_claims=claims_check(),
    )


def _run(planned: Callable[[], Plan], options: RunOptions) -> int:
    """Run the sweep in this process, the driver; return the exit code."""

    def train() -> Ended:
        plan = planned()  # reports problems of the file before anything heavy is imported
        from orchestrator.run.runner import run_sweep

        ended = run_sweep(plan, options)
        print_end(ended, options)
        signals.check()  # raises after a signal: an interrupted job must not record an outcome
        return ended

    if not options.job:
        return train().exit_code
    from orchestrator.run.for_job import run_for_job

    return run_for_job(options.job, options.store, train)


def print_end(ended: Ended, options: RunOptions) -> None:
    if ended.summary and not options.quiet:
        print(ended.summary, file=sys.stderr)
    if options.json_lines:
        from orchestrator.run.lines import json_line

        print(json_line({"event": "summary", **ended.counts}), flush=True)


def close_open_attempts(
    planned: Callable[[], Plan], options: RunOptions, kind: str, message: str
) -> None:
    """Record why the attempts that a dead driver left open have ended."""
    with suppress(NormsweepError):
        from orchestrator.store import open_store
        from orchestrator.store.closing import close_attempts

        ids = [trial.id for trial in planned().trials]
        close_attempts(open_store(options.store), ids, options.run, kind, message)


@verbs.command()
def status(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE_OR_JOB", help="A sweep file; a sweep's or trial's name; a job."
        ),
    ],
    store: StoreUri = STORE,
    as_json: AsJson = False,
    data: Data = None,
    context: Context = None,
    namespace: Namespace = NAMESPACE,
) -> int:
    """Show how far a sweep or trial is, from the store alone; or what a job on a cluster does."""
    if not file.is_file() and file.suffix == "":
        check_store(store, says=False)
        if context is None and show_known(store, str(file), as_json=as_json):
            return 0
        from orchestrator.cluster.follow import show_job
        from orchestrator.cluster.kube import Kube

        try:
            kube = Kube(context, namespace)
        except NormsweepError as error:
            unknown = f"{file}: not a file, nor a sweep or trial in the store {store}."
            raise type(error)(f"{unknown}\n{error}") from error
        return show_job(kube, str(file), store)
    from orchestrator.plan import load_plan

    rarely_from_now_on()
    planned = load_plan(file, finder(data), weights(store, check=False))
    check_store(store)
    _show_sweep(planned, store, as_json=as_json)
    return 0


def _show_sweep(planned: Plan, store: str, *, as_json: bool) -> None:
    """Print the states of a sweep's trials, who trains them, and what has gone wrong."""
    from orchestrator.plan import show
    from orchestrator.store import read_store
    from orchestrator.store.census import looks_at_plan
    from orchestrator.store.retention import retained
    from orchestrator.store.summary import who_trains, who_trains_in_words
    from orchestrator.store.trials import damage_in_words
    from orchestrator.store.troubles import in_words, troubles

    looks, said = looks_at_plan(store, planned)
    if said:
        print(said, file=sys.stderr)
    counts = show.counts(planned, {look.trial: look.state for look in looks.values()})
    damage = damage_in_words(looks.values())
    notes = [f"{trial.name}: {note}" for trial in planned.trials if (note := looks[trial.id].note)]
    retries = troubles(planned, looks)
    kept = retained(read_store(store), planned, looks)
    if as_json:
        more = {"trained_by": who_trains(looks.values()), "notes": notes, "damage": damage}
        more |= {} if kept is None else {"keep": vars(kept)}
        print(json.dumps({**counts, **more, "retries": retries}))
        return
    line = "  ".join(f"{name} {value}" for name, value in counts.items())
    running = [one for one in planned.trials if looks[one.id].state.is_under_way]
    names = {trial.id: trial.name for trial in running}
    lines = [line, *([] if kept is None else [f"{kept}"]), *who_trains_in_words(names, looks)]
    overcome = {f"{one['name']}: {one['message']}" for one in retries}
    notes = [note for note in notes if note not in overcome]
    print("\n".join([*lines, *notes, *damage, *in_words(retries, store)]))
