from __future__ import annotations

import http.server
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.doctor import Finding, examine, run_doctor


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def found(subject: str, store: Path, tracking: str) -> Finding:
    return next(finding for finding in examine(str(store), tracking) if finding.subject == subject)


def test_a_machine_that_can_run_is_ready(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor(str(runs), f"sqlite:///{runs}/mlflow.db") == 0
    said = capsys.readouterr().out
    assert "Ready." in said
    for name in ("torch", "deepspeed", "ray", "mlflow", "memory", "devices", "store", "tracking", "telemetry"):
        assert name in said


def test_every_finding_that_is_not_ok_says_what_to_do(runs: Path) -> None:
    for finding in examine(str(runs), "ftp://nowhere"):
        assert finding.verdict == "ok" or finding.advice, finding


def test_a_store_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    assert found("store", tmp_path / "runs", f"sqlite:///{tmp_path}/mlflow.db").verdict == "problem"
    assert run_doctor(str(tmp_path / "runs"), f"sqlite:///{tmp_path}/mlflow.db") == 3


def test_a_file_that_is_no_database_is_a_problem(runs: Path) -> None:
    runs.mkdir()
    (runs / "mlflow.db").write_text("not a database, but long enough to be taken for one")
    finding = found("tracking", runs, f"sqlite:///{runs}/mlflow.db")
    assert finding.verdict == "problem"
    assert "normsweep sync" in finding.advice


def test_looking_at_a_database_does_not_make_one(runs: Path) -> None:
    assert found("tracking", runs, f"sqlite:///{runs}/mlflow.db").verdict == "ok"
    assert not (runs / "mlflow.db").exists()


def test_the_runs_of_a_database_are_counted(runs: Path) -> None:
    runs.mkdir()
    connection = sqlite3.connect(runs / "mlflow.db")
    connection.executescript("CREATE TABLE runs (id TEXT); INSERT INTO runs VALUES ('a'), ('b');")
    connection.close()
    assert found("tracking", runs, f"sqlite:///{runs}/mlflow.db").found.endswith("with 2 runs")


@pytest.fixture
def server() -> Iterator[str]:
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_a_server_that_is_none_of_mlflow_is_a_problem(runs: Path, server: str) -> None:
    finding = found("tracking", runs, server)
    assert finding.verdict == "problem"
    assert "error code 501" in finding.found
    assert finding.advice == "Is this the address of an MLflow server?"


def test_advice_in_brackets_is_printed_as_it_is(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert run_doctor(str(runs), "postgresql+psycopg://ada:s3cr3t@host/db") == 3
    said = capsys.readouterr().out
    assert "pip install 'psycopg[binary]'" in said
    assert "s3cr3t" not in said


def test_a_tracking_server_that_does_not_answer_is_a_problem(runs: Path) -> None:
    finding = found("tracking", runs, "http://127.0.0.1:9")
    assert finding.verdict == "problem"
    assert "training goes on" in finding.advice


def test_telemetry_switched_on_outside_is_noted(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    assert found("telemetry", runs, f"sqlite:///{runs}/mlflow.db").verdict == "note"
