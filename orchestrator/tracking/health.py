"""Checks whether MLflow can be used from here, for `normsweep doctor`; changes nothing."""

from __future__ import annotations

import os
import sqlite3
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import NormsweepError, masked
from orchestrator.hints import hint
from orchestrator.tracking import is_mlflow, shown, sqlite
from orchestrator.tracking.address import Address, about_access, parse

ANSWER_DEADLINE_S = 5.0
ANOTHER = "Make it writable, or name another database with --tracking."


@dataclass(frozen=True)
class Health:
    """Whether all is well, what was found, and what to do if it is not."""

    is_well: bool
    found: str
    advice: str = ""


def look(tracking_uri: str) -> Health:
    if not is_mlflow(tracking_uri):
        return Health(True, shown(tracking_uri))
    try:
        address = parse(tracking_uri)
    except NormsweepError as error:
        return Health(False, str(error), "Give sqlite:///PATH or a server's http address.")
    if address.database is not None:
        return _database(address.database)
    address.sign_in()
    return _service(address)


def _database(path: Path) -> Health:
    if not path.exists():
        above = next(folder for folder in path.parents if folder.exists())
        if above.is_dir() and os.access(above, os.W_OK):
            return Health(True, f"{path} will be made by the first run")
        return Health(False, f"{above} is not writable", ANOTHER)
    try:
        runs = sqlite.count_runs(path)
        deleted = sqlite.deleted(path)
    except sqlite3.Error as error:
        return Health(False, f"{path}: {error}", _refill())
    if not os.access(path, os.W_OK):
        return Health(False, f"{path} is not writable", ANOTHER)
    return _with_deleted(f"{path} with {runs} runs", deleted)


def _with_deleted(found: str, deleted: list[tuple[str, int | None]]) -> Health:
    """The health of an MLflow that answers, given what `sqlite.deleted` found in it."""
    if not deleted:
        return Health(True, found)
    words = [
        f"{name} is deleted" if runs is None else f"{runs} of {name}'s runs deleted"
        for name, runs in deleted
    ]
    whole = any(runs is None for _, runs in deleted)
    command = "`mlflow experiments restore`." if whole else "`mlflow runs restore`."
    advice = (
        f"`{hint('run FILE')}` or `{hint('sync FILE')}` restores what belongs to its sweep; "
        f"so does {command}"
    )
    return Health(False, f"{found}; among its sweeps: {', '.join(words)}", advice)


def _refill() -> str:
    return (
        f"Move it away and fill a new one with `{hint('sync FILE')}`: "
        "the store has everything that is in it."
    )


def _start() -> str:
    later = hint("sync FILE")
    return f"Start it, or run without it: training goes on, and `{later}` catches up later."


def _service(address: Address) -> Health:
    """The health of a server, or of a database that is not a local file."""
    away = why_away(address.uri) if address.is_server else None
    if away is not None:
        return Health(False, f"{address.shown} does not answer: {masked(away)}", _start())
    from orchestrator.tracking.mlflow import deleted_experiments

    try:
        deleted = deleted_experiments(address)
    except NormsweepError as error:
        return Health(False, str(error), about_access(str(error)).rstrip() or _start())
    return _with_deleted(f"{address.shown} answers", deleted)


def why_away(uri: str) -> str | None:
    """Why nothing answers at a server's address; None if anything does, even with an error."""
    try:
        # S310: only http and https addresses get here.
        urllib.request.urlopen(f"{uri}/health", timeout=ANSWER_DEADLINE_S).close()  # noqa: S310
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        return str(getattr(error, "reason", error))
    return None
