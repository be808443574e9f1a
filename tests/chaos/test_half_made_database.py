"""MLflow makes its tables in hundreds of steps; a kill between two leaves no database that is lost.

MLflow (3.17) itself never goes on with most of such: `table spans already exists`.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.tracking import sqlite
from tests.sweeps import environment

# Of 1,683 statements by which MLflow 3.17 makes its tables, the one at which it is killed.
KILLED_AT = {"theirs": (250, 545, 1200), "ours": (545, 1200)}
# A process imports MLflow and forks two for each database: one is killed, the other opens it.
PROGRAM = """
import os, signal, sys
import sqlalchemy
from mlflow import MlflowClient
from orchestrator.tracking.mlflow import MlflowTracker

def forked(work, *arguments):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(*arguments)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]

def ours():
    MlflowTracker("sqlite:///mlflow.db", "sweep").open()

def theirs():
    MlflowClient("sqlite:///mlflow.db")

def killed(work, left):
    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "after_cursor_execute")
    def count(*about):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    work()

for folder in sys.argv[1:]:
    os.makedirs(folder)
    os.chdir(folder)
    whose, at = folder.split("/")[-2:]
    assert forked(killed, globals()[whose], int(at)) == signal.SIGKILL, folder
    assert forked(ours) == 0, folder
"""


def test_a_database_whose_maker_was_killed_is_made_anew(tmp_path: Path) -> None:
    folders = [tmp_path / whose / str(at) for whose, some in KILLED_AT.items() for at in some]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, folders)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        env=environment(),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
        with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
            found = connection.execute("SELECT name FROM experiments").fetchall()
        assert found == [("Default",), ("sweep",)], folder


@pytest.mark.parametrize(
    "tables",
    [
        "CREATE TABLE mine (a)",
        "CREATE TABLE experiments (a); CREATE TABLE alembic_version (a)",
        "{mlflow} INSERT INTO experiments VALUES (1)",
        "{mlflow} CREATE TABLE registered_models (a); INSERT INTO registered_models VALUES (1)",
    ],
)
def test_a_database_that_may_hold_something_is_left_as_it_is(tmp_path: Path, tables: str) -> None:
    empty = "".join(f"CREATE TABLE {name} (a);" for name in sorted(sqlite.OF_MLFLOW))
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(tables.format(mlflow=empty))
        connection.commit()
    before = database.read_bytes()
    sqlite.prepare(database, lambda uri: pytest.fail("it is not new"))
    assert database.read_bytes() == before
