"""The verb of a gate: regress."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import signals
from orchestrator.cli.exits import exit_code
from orchestrator.cli.flags import RunFlags, spread
from orchestrator.cli.options import File
from orchestrator.cli.stores import check_store
from orchestrator.cli.sweeps import close_open_attempts, plan_to_run
from orchestrator.errors import EnvironmentProblem, NormsweepError, UserError

if TYPE_CHECKING:
    from orchestrator.plan import Plan
    from orchestrator.regression.options import NightOptions
    from orchestrator.run.options import RunOptions
    from orchestrator.store.ending import Ended

verbs = typer.Typer()


@dataclass(frozen=True)
class GateFlags:
    """What only a gate takes."""

    candidate: Annotated[
        str | None,
        typer.Option(metavar="NORM", help="Train and judge this candidate alone; no verdict kept."),
    ] = None
    date: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="The night to judge. Default: today, in UTC."),
    ] = None
    update_baseline: Annotated[
        bool,
        typer.Option("--update-baseline", help="Write the gate's baseline; judge nothing."),
    ] = False
    junit: Annotated[
        Path | None, typer.Option(metavar="OUT.xml", help="Write the verdict for a CI system.")
    ] = None
    history: Annotated[
        bool, typer.Option("--history", help="Show the verdicts so far; train and judge nothing.")
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For the page. Default: STORE/regressions/NAME/DATE."),
    ] = None

    def check(self) -> None:
        """Refuse flags that do not fit together, before anything is trained."""
        given = {
            "--update-baseline": self.update_baseline,
            "--history": self.history,
            "--candidate": self.candidate is not None,
        }
        several = [flag for flag, is_given in given.items() if is_given]
        if len(several) > 1:
            raise UserError(f"{' and '.join(several)} do not fit together: give one of them.")
        junit = self.junit
        if junit is not None and (junit.is_dir() or not junit.absolute().parent.is_dir()):
            raise UserError(f"--junit {junit}: not a file in a folder that exists.")


@verbs.command()
@spread
def regress(file: File, gate: GateFlags, flags: RunFlags) -> int:
    """Train what is new and judge it by the sweep's gate. Exits 0 if all passed, 4 if one failed.

    It exits 3 if none failed and some cannot be decided.
    """
    from orchestrator.regression.options import NightOptions, addresses
    from orchestrator.run.driver import drive

    gate.check()
    # A night speaks once, at its end.
    options = replace(flags.options(), json_lines=False)
    planned = partial(
        plan_to_run, file, flags.data, flags.store, writes_baseline=gate.update_baseline
    )
    if gate.history:
        return _show_history(planned(), flags.store, as_json=flags.as_json)
    night = NightOptions(
        options, _day(gate.date), gate.candidate or "", gate.out, gate.junit, addresses()
    )
    does = _update_baseline if gate.update_baseline else _judge
    work = partial(does, planned, night, flags.as_json)
    return drive(
        lambda: exit_code(lambda: _ended(work, options)),
        partial(close_open_attempts, planned, options),
        settings=options,
    )


def _day(given: str | None) -> str:
    """The night's date. Raises UserError if the one given is not a date."""
    from orchestrator.store.verdicts import is_day

    if given is None:
        return datetime.now(UTC).date().isoformat()
    if not is_day(given):
        raise UserError(f"--date {given}: not a date. Write it as {datetime.now(UTC):%Y-%m-%d}.")
    return given


def _ended(work: Callable[[], Ended], options: RunOptions) -> int:
    """The exit code of the work in this process, the driver."""
    if not options.job:
        return work().exit_code
    from orchestrator.run.for_job import run_for_job

    # Undecided is an answer, which a new cluster would not change.
    return run_for_job(options.job, options.store, work, frozenset({EnvironmentProblem.exit_code}))


def _judge(planned: Callable[[], Plan], options: NightOptions, as_json: bool) -> Ended:
    from orchestrator.regression.night import gate_of, judge_night
    from orchestrator.regression.publishing import publish, publish_error
    from orchestrator.regression.show import as_text
    from orchestrator.regression.verdict import as_json as in_json
    from orchestrator.store.ending import Ended

    plan = planned()
    gate_of(plan)
    try:
        concluded = judge_night(plan, options)
        published = publish(plan, concluded, options)
    except NormsweepError as error:
        publish_error(plan, options, str(error))
        raise
    signals.check()  # raises after a signal: an interrupted job must not record an outcome
    text = as_text(concluded.night)
    if as_json:
        print(json.dumps(in_json(concluded.night), indent=2, allow_nan=False), flush=True)
    elif not options.run.quiet:
        print(text, flush=True)
    notes = (*concluded.notes, *published.notes)
    page = f"Page: {published.page}" if published.page else ""
    for line in (*notes, *([page] if page and not options.run.quiet else [])):
        print(line, file=sys.stderr)
    summary = "\n".join(filter(None, (text, page)))
    return Ended(concluded.exit_code, (*concluded.warnings, *notes), summary)


def _update_baseline(planned: Callable[[], Plan], options: NightOptions, as_json: bool) -> Ended:
    from orchestrator.regression.night import update_baseline
    from orchestrator.store.ending import Ended

    path, notes = update_baseline(planned(), options)
    said = f"{path}: written. Look at its difference, and commit it."
    print(said, file=sys.stderr)
    return Ended(0, notes, said)


def _show_history(plan: Plan, store: str, *, as_json: bool) -> int:
    from orchestrator.regression.history import read_history
    from orchestrator.regression.night import gate_of
    from orchestrator.store import read_store

    gate_of(plan)
    check_store(store)
    found = read_history(read_store(store), plan.sweep)
    print(json.dumps(found.as_json(), indent=2) if as_json else found.as_text())
    for problem in found.damaged:
        print(problem, file=sys.stderr)
    return 0
