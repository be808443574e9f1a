"""Addresses of MLflow are parsed once, refused in a sentence, and shown without their passwords."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy

from orchestrator.errors import EnvironmentProblem, NormsweepError, UserError, masked
from orchestrator.tracking.address import Address, parse

SECRET = "s3cr3t-w0rd"
ODD = [
    "a#b",
    "a%20b",
    "a b",
    "ü",
    "a?b",
    "a?x=1",
    "a%b",
    "a%%b",
    "a&b=c",
    "a+b",
    "a@b:c",
    "a'b\"c",
    "a\\b",
    "100%",
]


@pytest.mark.parametrize("name", ODD)
def test_a_relative_database_is_found_from_a_folder_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    address = parse("sqlite:///mlflow.db")
    assert address.database == folder / "mlflow.db"
    assert address.shown == "sqlite:///mlflow.db"
    engine = sqlalchemy.create_engine(address.uri)
    with closing(engine.connect()) as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE t (a int)"))
    engine.dispose()
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_path_may_be_written_as_an_address_is(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    assert parse(f"sqlite:///{tmp_path}/a%20b/x.db").database == tmp_path / "a b/x.db"
    (tmp_path / "a%20b").mkdir()
    assert parse(f"sqlite:///{tmp_path}/a%20b/x.db").database == tmp_path / "a%20b/x.db"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ftp://nowhere", "not an address of MLflow"),
        ("", "not an address of MLflow"),
        ("runs/mlflow.db", "sqlite:///runs/mlflow.db"),
        ("mlruns", "sqlite:///mlruns/mlflow.db"),
        ("file:///data/mlruns", "sqlite:////data/mlruns/mlflow.db"),
        ("localhost:5000", "http://localhost:5000"),
        ("sqlite://runs/mlflow.db", "three slashes"),
        ("sqlite:///", "sqlite:///PATH"),
        ("sqlite://", "sqlite:///PATH"),
        ("sqlite:///:memory:", "sqlite:///PATH"),
        ("sqlite:///x.db?timeout=5", "sqlite:///x.db"),
        ("sqlite:////", "sqlite:///PATH"),
        ("sqlite:////tmp", "sqlite:////tmp/mlflow.db"),
        ("http://", "does not name a server"),
        ("http://:5000", "does not name a server"),
        ("http://a b", "does not name a server"),
        ("http://host:port", "[Pp]ort"),
        ("http://host:99999", "[Pp]ort"),
        ("http://[::1", "not an address|Invalid"),
        ("http://host/?x=1", "without `\\?`"),
        ("postgres://host/db", "postgresql://host/db"),
        ("postgresql+nope://host/db", "not an address of a database"),
        ("mysql:///", "does not name a server"),
    ],
)
def test_a_bad_address_is_refused_with_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse(text)


@pytest.mark.parametrize(
    ("text", "installs"),
    [
        ("postgresql+psycopg2://u:{}@host/db", "pip install psycopg2-binary"),
        ("mysql+pymysql://u:{}@host/db", "pip install pymysql"),
        ("mysql://u:{}@host/db", "pip install pymysql"),
        ("postgresql://u:{}@host/db", "pip install psycopg2-binary"),
        ("mssql+pyodbc://u:{}@host/db", "pip install pyodbc"),
    ],
)
def test_for_a_driver_that_is_not_installed_the_message_says_what_to_install(
    text: str, installs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("psycopg", "psycopg2", "pymysql", "MySQLdb", "pyodbc"):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    with pytest.raises(EnvironmentProblem, match=installs) as told:
        parse(text.format(SECRET))
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "password", [SECRET, "s3cr3t/w0rd", "s3cr3t@w0rd", "s3cr3t'w0rd", "s3cr3t w0rd", "s3cr3t#?w0rd"]
)
@pytest.mark.parametrize(
    "before", ["http", "https", "postgresql+psycopg2", "mysql+pymysql", "ftp", "postgres"]
)
def test_no_error_holds_a_password_whatever_is_wrong_with_the_address(
    before: str, password: str
) -> None:
    for rest in ("host", "host:port", "host:5000/db", "host/db?sslpassword=s3cr3t", "", "ho st"):
        try:
            shown = parse(f"{before}://ada:{password}@{rest}").shown
        except NormsweepError as error:
            shown = str(error)
        assert "s3cr3t" not in shown, shown
        assert "w0rd" not in shown, shown


def test_a_servers_password_goes_to_mlflow_by_its_own_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "other")
    address = parse(f"HTTPS://ada:{SECRET}%40%2F@[::1]:5000/mlflow/")
    assert (address.uri, address.shown) == ("https://[::1]:5000/mlflow",) * 2
    assert SECRET not in repr(address)
    address.sign_in()
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "ada"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == f"{SECRET}@/"


def test_an_address_without_a_password_changes_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other")
    parse("http://host:5000").sign_in()
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "other"


@pytest.mark.parametrize(
    "text", ["http://host:5000/x?user=a@b", "s3://bucket/a@b", "sqlite:////home/a:b@c/x.db"]
)
def test_what_is_not_a_password_is_not_masked(text: str) -> None:
    assert masked(text) == text


def test_a_message_that_quotes_an_address_holds_no_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = (
        f"HTTPConnectionPool: GET 'http://ada:{SECRET}@host:5000/api' "
        "and postgresql://ada:12345@db/x?password=12345 failed"
    )
    assert SECRET not in str(UserError(said))
    assert "12345" not in str(UserError(said))
    assert "host:5000/api" in str(UserError(said))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert str(EnvironmentProblem(f"Invalid header {SECRET}")) == "Invalid header ***"


LISTED = """
import sys
from orchestrator.tracking.address import leave_process_list
leave_process_list(sys.argv[1:])
import os, psutil
names = ("NORMSWEEP_TRACKING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
print(os.getpid(), psutil.Process().cmdline()[3:], *(os.environ.get(name) for name in names))
"""


@pytest.mark.parametrize("flag", [["--tracking", "{}"], ["--tracking={}"]])
@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_password_leaves_the_list_of_processes(
    flag: list[str], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{scheme}://ada:{SECRET}@host"
    for name in ("NORMSWEEP_TRACKING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    words = ["run", "x.yaml", *(part.format(uri) for part in flag), "--quiet"]
    command = [sys.executable, "-c", LISTED, *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        output, told = process.communicate(timeout=60)
    if scheme == "http":
        left = f"['run', 'x.yaml', '--tracking=http://host', '--quiet'] None ada {SECRET}"
    else:
        left = f"['run', 'x.yaml', '--quiet'] {uri} None None"
    assert output == f"{process.pid} {left}\n"
    assert "MLFLOW_TRACKING_PASSWORD" in told
    assert SECRET not in told


def test_an_address_is_equal_however_it_was_signed_in() -> None:
    assert parse("http://host/") == Address("http://host", "http://host", is_server=True)
