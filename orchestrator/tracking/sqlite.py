"""The SQLite database that MLflow keeps beside a store, with its artifacts beside it.

Tells at once whether it can be used, gives a new one all its tables in one transaction, and lets
one process at a time open it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from orchestrator.hints import hint
from orchestrator.tracking.address import SQLITE

ARTIFACTS = "mlartifacts"
PATIENCE_S = 20.0  # to wait for another process that writes
OF_MLFLOW = {"alembic_version", "experiments", "runs", "metrics"}  # some of its tables
# Whatever it keeps belongs to one of these.
HOLDERS = {
    "experiments": "SELECT 1 FROM experiments",
    "registered_models": "SELECT 1 FROM registered_models",
}
OF_OURS = """
    SELECT e.name, e.lifecycle_stage = 'deleted' AS is_deleted,
        sum(r.lifecycle_stage = 'deleted') AS deleted_runs
    FROM experiments e JOIN runs r ON r.experiment_id = e.experiment_id
    WHERE EXISTS (SELECT 1 FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key LIKE 'normsweep.%')
    GROUP BY e.experiment_id ORDER BY e.name
"""

# Those last touched first, and whether they have the saved view.
SHOWN = """
    SELECT e.experiment_id, e.name, EXISTS (
        SELECT 1 FROM experiment_tags v WHERE v.experiment_id = e.experiment_id AND v.key = ?
    )
    FROM experiments e JOIN runs r ON r.experiment_id = e.experiment_id
    WHERE e.lifecycle_stage = 'active' AND EXISTS (
        SELECT 1 FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key LIKE 'normsweep.%'
    )
    GROUP BY e.experiment_id ORDER BY max(coalesce(r.end_time, r.start_time)) DESC
"""


class Unusable(Exception):
    """A database cannot be used; the message says why and what to do."""


@contextlib.contextmanager
def alone(database: Path | None) -> Iterator[None]:
    """Keep out this machine's other processes that use the same database.

    Does nothing without a database: a server handles concurrent callers itself.
    """
    if database is None:
        yield
        return
    _make_folder(database)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_folder(database: Path) -> None:
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(
            f"{database}: {error.strerror}. Name another database with --tracking."
        ) from error


def artifacts_beside(database: Path, experiment: str) -> str:
    """Where an experiment's artifacts are kept, as a URI."""
    return (database.parent / ARTIFACTS).as_uri() + f"/{experiment}"


def prepare(database: Path, make_tables: Callable[[str], object]) -> None:
    """Try to lock the database for writing, and fill one that is new. Raises Unusable.

    `make_tables(uri)` has MLflow make its tables. For a database that cannot be used MLflow would
    try it ten times, for 100 s. To be called by one process at a time.
    """
    try:
        _make_folder(database)
        with _connected(database) as connection:
            connection.execute("BEGIN IMMEDIATE")
            is_new = _is_new(connection)
            connection.rollback()
        if is_new:
            _fill(database, make_tables)
    except sqlite3.OperationalError as error:
        raise Unusable(
            f"{database}: {error}. Make it writable, or name another database with --tracking."
        ) from error
    except sqlite3.DatabaseError as error:
        raise Unusable(
            f"{database}: {error}. Move it away, and fill a new one with `{hint('sync FILE')}`: "
            "the store has everything."
        ) from error


def _is_new(connection: sqlite3.Connection) -> bool:
    """Whether the database has no tables, or what a killed MLflow had made of them.

    Once MLflow has made them all, it adds an experiment.
    """
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    tables = {name for (name,) in found}
    if not tables >= OF_MLFLOW:
        return not tables
    asked = (query for name, query in HOLDERS.items() if name in tables)
    return not any(connection.execute(query).fetchone() for query in asked)


def _fill(database: Path, make_tables: Callable[[str], object]) -> None:
    """Copy MLflow's tables from a database beside this one in one transaction.

    MLflow (3.17) makes them in hundreds of transactions. If it is killed between two of those, it
    can never go on with most of what it has made.
    """
    beside = database.with_name(f"{database.name}.new")
    files = (beside, beside.with_name(f"{beside.name}-journal"))
    for left in files:
        left.unlink(missing_ok=True)
    make_tables(SQLITE + quote(str(beside)))
    with _connected(beside, "ro") as made, _connected(database) as connection:
        made.backup(connection)
    for file in files:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def _connected(database: Path, mode: str = "rwc") -> Iterator[sqlite3.Connection]:
    uri = f"{database.absolute().as_uri()}?mode={mode}"
    with contextlib.closing(
        sqlite3.connect(uri, uri=True, timeout=PATIENCE_S, isolation_level=None)
    ) as connection:
        yield connection


def bring_home(database: Path) -> None:
    """Make a database that was moved or copied keep its artifacts beside it, not at its old place.

    MLflow records absolute addresses. Those of our experiments end with `mlartifacts/<name>`;
    others are left as they are. If the store was copied, the original is not touched.
    """
    if not database.exists():
        return
    with _connected(database, "rw") as connection:
        try:
            experiments = connection.execute(
                "SELECT experiment_id, name, artifact_location FROM experiments"
            ).fetchall()
        except sqlite3.OperationalError:  # it has no tables yet
            return
        for number, name, old in experiments:
            home = artifacts_beside(database, name)
            if not _is_elsewhere(old or "", name, database.parent):
                continue
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "UPDATE experiments SET artifact_location = ?"
                " WHERE experiment_id = ? AND artifact_location = ?",
                (home, number, old),
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?)"
                " WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (home, len(old) + 1, number, len(old) + 1, f"{old}/"),
            )
            connection.commit()


def _is_elsewhere(location: str, experiment: str, folder: Path) -> bool:
    """Whether an experiment's artifacts are kept beside a database of ours in another folder."""
    ending = f"/{ARTIFACTS}/{experiment}"
    if not location.startswith("file://") or not location.endswith(ending):
        return False
    before = unquote(urlsplit(location.removesuffix(ending)).path) or "/"
    with contextlib.suppress(OSError):
        return not os.path.samefile(before, folder)  # one folder may have two paths
    return True


def count_runs(database: Path) -> int:
    """The number of runs in the database. Only reads. Raises sqlite3.Error."""
    with _connected(database, "ro") as connection:
        (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    return int(runs)


def deleted(database: Path) -> list[tuple[str, int | None]]:
    """Our experiments that somebody deleted, or of which somebody deleted runs. Only reads.

    Gives (name, None) for a deleted experiment, (name, number) for one with deleted runs.
    """
    with _connected(database, "ro") as connection:
        try:
            found = connection.execute(OF_OURS).fetchall()
        except sqlite3.OperationalError:  # not MLflow's tables, or those of another version
            return []
    return [
        (name, None if is_deleted else runs)
        for name, is_deleted, runs in found
        if is_deleted or runs
    ]


def experiments(database: Path, view: str) -> list[tuple[str, str, bool]]:
    """Our experiments, those last touched first: id, name, whether they have the tag `view`.

    Only reads. There are none in a file that is not MLflow's.
    """
    with contextlib.suppress(sqlite3.Error), _connected(database, "ro") as connection:
        found = connection.execute(SHOWN, (view,)).fetchall()
        return [(str(number), name, bool(has_view)) for number, name, has_view in found]
    return []
