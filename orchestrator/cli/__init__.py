"""The command line: parse, call, print, exit code.

Anything heavy is imported by the verb that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from orchestrator import hints
from orchestrator.cli import (
    cluster,
    data,
    logs,
    machine,
    new,
    regress,
    results,
    store,
    sweeps,
    trials,
)
from orchestrator.cli.exits import exit_code
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.streams import guard, lost_output
from orchestrator.tracking.address import leave_process_list

app = typer.Typer(
    name="normsweep",
    help=(
        "Sweeps over normalisation layers in image-restoration Transformers: "
        "one YAML file in, a report out."
    ),
    epilog=(
        "Exit codes: 0 done; 1 a bug of ours, with a traceback; 2 your file, flags or data; "
        "3 the machine, the cluster or a service, or a gate that is undecided; 4 some trials "
        "failed, or a gate did not hold; 129, 130 or 143 ended by SIGHUP, Ctrl-C or SIGTERM."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for kind in (sweeps, regress, results, store, logs, trials, new, machine, cluster):
    app.add_typer(kind.verbs)
app.add_typer(data.verbs, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        from orchestrator.version import in_words

        print(in_words())
        raise typer.Exit


@app.callback()
def _every_verb(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print version and commit."
        ),
    ] = False,
) -> None:
    """Flags that need no verb."""


def main() -> int:
    """Run the command line; the exit codes are those of orchestrator.errors."""
    guard()
    leave_process_list(sys.argv[1:])
    try:
        os.getcwd()
    except FileNotFoundError:
        print("The working folder no longer exists. Change to one that does.", file=sys.stderr)
        return UserError.exit_code
    try:
        code = exit_code(lambda: app(standalone_mode=False))
    finally:
        hints.forget()
    # A command that succeeded but could not print its output has not succeeded.
    if (lost := lost_output()) is not None:
        print(lost, file=sys.stderr)
        return code or EnvironmentProblem.exit_code
    return code
