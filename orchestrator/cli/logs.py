"""The verb logs: of a trial in the store, or else of a job on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import hints
from orchestrator.cli.options import NAMESPACE, STORE, Context, Namespace, StoreUri, of_trials
from orchestrator.cli.stores import check_store, local_sweep
from orchestrator.errors import EnvironmentProblem, NormsweepError, UserError

if TYPE_CHECKING:
    from orchestrator.cluster.kube import Kube
    from orchestrator.store.base import Store
    from orchestrator.store.finding import UnknownTrial

verbs = typer.Typer()


@verbs.command()
def logs(
    name: Annotated[
        str,
        of_trials(
            "TRIAL_OR_JOB",
            "A trial's id, the beginning of one, or its name; else a job's or sweep's name.",
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing until it ends.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Of a trial: every metric, and whole tracebacks.")
    ] = False,
    trial: Annotated[
        str | None, typer.Option(metavar="TRIAL", help="One trial of the job: its id or name.")
    ] = None,
    store: StoreUri = STORE,
    context: Context = None,
    namespace: Namespace = NAMESPACE,
) -> int:
    """Print what the store keeps of a trial's output, or the output of a sweep on a cluster."""
    from orchestrator.trials.log import log_lines

    check_store(store, says=False)
    unknown = None
    if trial is None:
        found, unknown = _in_store(store, name)
        if found is not None:
            return _print(log_lines(*found, full=full, follow=follow))
        if context is None and (sweep := local_sweep(store, name)):
            raise UserError(sweep)
    kube = _cluster(context, namespace, unknown)
    from orchestrator.cluster.follow import show_log, store_of_trial

    if trial is not None:
        of_job, found_there = store_of_trial(kube, name, trial)
        hints.remember(hints.STORE, of_job.uri)
        return _print(log_lines(of_job, found_there, full=full, follow=follow))
    try:
        return show_log(kube, name, follow=follow)
    except UserError as error:
        raise UserError("\n".join(map(str, filter(None, [unknown, error])))) from error


def _in_store(uri: str, name: str) -> tuple[tuple[Store, str] | None, UnknownTrial | None]:
    """The trial of this name, with its store; or why there is none, where the store has trials.

    Raises UserError if several trials may be meant.
    """
    from orchestrator.store import read_store
    from orchestrator.store.finding import UnknownTrial, find_trial
    from orchestrator.store.trials import trial_ids

    try:
        store = read_store(uri)
        return (store, find_trial(store, name)), None
    except UnknownTrial as error:
        return None, error if trial_ids(store) else None
    except EnvironmentProblem as error:  # pods may see the store, and the job's log is elsewhere
        print(f"Trials are not looked for: {error}", file=sys.stderr)
        return None, None


def _cluster(context: str | None, namespace: str, unknown: UnknownTrial | None) -> Kube:
    """The cluster that has the job, if the name is one. A near miss of a trial's is not."""
    from orchestrator.cluster.kube import Kube

    try:
        return Kube(context, namespace)
    except NormsweepError as error:
        if unknown is None:
            raise
        kind = UserError if unknown.is_near else type(error)
        raise kind(f"{unknown}\nNor can a job be asked for. {error}") from error


def _print(lines: Iterable[str]) -> int:
    for line in lines:
        print(line, flush=True)
    return 0
