"""Publishes a night: page, JUnit, MLflow, notification. All of it can be made again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan
from orchestrator.regression import notify
from orchestrator.regression.history import read_history
from orchestrator.regression.junit import as_error, as_junit
from orchestrator.regression.night import Concluded, gate_of
from orchestrator.regression.options import NightOptions
from orchestrator.regression.page import render
from orchestrator.regression.tracked import sync_nights
from orchestrator.report.page import put_files, write_files
from orchestrator.store import read_store
from orchestrator.store.verdicts import pages_prefix
from orchestrator.tracking.base import TrackingUnavailable
from trainers.durable import write_aside


@dataclass(frozen=True)
class Published:
    """The place of the night's page, "" if it has none, and what else to say."""

    page: str
    notes: tuple[str, ...]


def publish(plan: Plan, concluded: Concluded, options: NightOptions) -> Published:
    """Write the page of the verdict that the date keeps, tell MLflow, notify.

    A candidate judged alone has a page only in the folder that `options.out` names. MLflow that is
    away, or an address that does not answer, is a note. Raises EnvironmentProblem if a file cannot
    be written; the verdict is kept by then.
    """
    gate, store = gate_of(plan), read_store(options.run.store)
    if options.junit is not None:
        _write(options.junit, as_junit(concluded.night, gate.asked.undecided))
    night = concluded.kept or concluded.night
    history = read_history(store, plan.sweep)
    files = render(plan, gate, night, history)
    files = {"junit.xml": as_junit(night, gate.asked.undecided).decode(), **files}
    page = ""
    if options.out is not None:
        write_files(files, options.out)
        page = f"{options.out}/index.html"
    elif concluded.kept is not None:
        prefix = pages_prefix(plan.sweep, night.date)
        put_files(files, options.run.store, prefix)
        page = f"{store.uri}/{prefix}/index.html"
    notes = list(history.damaged)
    if concluded.kept is not None:
        try:
            notes += sync_nights(plan, options.run.store, options.run.tracking)
        except TrackingUnavailable as error:
            notes.append(f"The verdict is kept, but MLflow does not show it. {error}")
        before = history.before(night.date)
        notes += notify.notify(
            options.run.store, gate.asked, night, before, page, options.addresses
        )
    return Published(page, tuple(notes))


def publish_error(plan: Plan, options: NightOptions, message: str) -> None:
    """Write to the JUnit file that the night could not be judged, if one was asked for.

    Otherwise a CI system would show the last night's.
    """
    if options.junit is not None:
        _write(options.junit, as_error(plan.sweep, options.day, message))


def _write(path: Path, content: bytes) -> None:
    try:
        write_aside(path, content)
    except OSError as error:
        raise EnvironmentProblem(f"--junit {path}: cannot be written: {error.strerror}.") from error
