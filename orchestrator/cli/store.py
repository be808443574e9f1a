"""The verbs of the trials in a store: trials, diff, retry, gc."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete
from orchestrator.cli.options import STORE, AsJson, Data, StoreUri, finder, of_trials, weights
from orchestrator.cli.stores import check_store
from orchestrator.errors import UserError

verbs = typer.Typer()
KeptFiles = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILE...]",
        help="Sweep files that name the trials to keep. Default: the sweeps run so far.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TRIAL_OR_SWEEP",
        help="Keep this trial, or sweep; repeatable.",
        autocompletion=complete.trials,
    ),
]
WithResults = Annotated[
    bool,
    typer.Option("--results", help="Unnamed trials also lose results and final weights."),
]


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
        check_store(store)
    opened = read_store(store)
    found = table.rows(opened, planned)
    if as_json:
        print(json.dumps(table.as_json(opened.uri, found), indent=2, allow_nan=False))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(table.as_text(opened.uri, found, width))
    return 0


@verbs.command()
def diff(
    one: Annotated[str, of_trials("A", "A trial, or the name of a sweep in the store.")],
    other: Annotated[
        str | None, of_trials("[B]", "Another. Without it, --since compares A with itself.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Count only trials that ended on this date (2026-11-30, in UTC) or later. Without "
            "B, compare the sweep A as it was before that date with what has ended since.",
        ),
    ] = None,
    store: StoreUri = STORE,
    as_json: AsJson = False,
) -> int:
    """Compare two trials, two sweeps, or a sweep before and after a date.

    Shows in what spec, commit, versions and machines they differ, and the last scores of both.
    Sweeps are compared trial by trial: those of one name make a pair.
    """
    from orchestrator.store import read_store
    from orchestrator.trials.sweeps import difference, moment

    after = None if since is None else moment(since, datetime.now(UTC))
    check_store(store)
    text, document = difference(read_store(store), one, other, after)
    print(json.dumps(document, indent=2, allow_nan=False) if as_json else text)
    return 0


@verbs.command()
def retry(
    trials: Annotated[list[str], of_trials("TRIAL...")],
    store: StoreUri = STORE,
) -> int:
    """Make trials pending again that failed for good or diverged. Nothing they have is deleted."""
    from orchestrator.store import open_store, read_store
    from orchestrator.trials.retry import chosen, retry

    check_store(store)
    looks = chosen(read_store(store), trials)
    for line in retry(open_store(store), looks):
        print(line)
    return 0


@verbs.command()
def gc(
    files: KeptFiles = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would go; ask and delete nothing.")
    ] = False,
    keep: Keep = None,
    results: WithResults = False,
    caches: Annotated[
        bool, typer.Option("--caches", help="All cached data, not only what is a month old.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    store: StoreUri = STORE,
    data: Data = None,
) -> int:
    """Free room: checkpoints that no sweep needs, leftovers of killed runs, old caches."""
    from orchestrator.plan import load_plan

    check_store(store)
    find = finder(data)
    plans = [load_plan(file, find, weights(store, check=False)) for file in files or ()]
    named = {trial.id for plan in plans for trial in plan.trials}
    from orchestrator.store import open_store, read_store
    from orchestrator.trials import gc as collecting

    found = collecting.find(
        read_store(store),
        named if files else None,
        tuple(keep or ()),
        with_results=results,
        all_caches=caches,
        plans=plans,
    )
    print(collecting.as_text(found))
    if dry_run or not found:
        return 0
    if not yes and not sys.stdin.isatty():
        raise UserError("gc: nobody can be asked here. Give --yes, or --dry-run.")
    if not yes and not typer.confirm("Delete this?"):
        print("Nothing was deleted.")
        return 0
    print(collecting.delete_all(open_store(store), found))
    return 0
