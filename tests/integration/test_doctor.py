"""`normsweep doctor` finds what is wrong with a machine, a store and a tracking server."""

from __future__ import annotations

import http.server
import json
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.doctor import Finding, examine, run_doctor
from tests.damage import KINDS, files_of, written
from tests.s3 import QuietHandler


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def found(subject: str, store: Path, tracking: str) -> Finding:
    return next(finding for finding in examine(str(store), tracking) if finding.subject == subject)


def test_a_machine_that_can_run_is_ready(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor(str(runs), f"sqlite:///{runs}/mlflow.db") == 0
    said = capsys.readouterr().out
    assert "Ready." in said
    for name in (
        "torch",
        "deepspeed",
        "ray",
        "mlflow",
        "memory",
        "devices",
        "store",
        "tracking",
        "telemetry",
    ):
        assert name in said


def test_every_finding_that_is_not_ok_says_what_to_do(runs: Path) -> None:
    for finding in examine(str(runs), "ftp://nowhere"):
        assert finding.verdict == "ok" or finding.advice, finding


def test_a_store_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    assert found("store", tmp_path / "runs", f"sqlite:///{tmp_path}/mlflow.db").verdict == "problem"
    assert run_doctor(str(tmp_path / "runs"), f"sqlite:///{tmp_path}/mlflow.db") == 3


def test_a_program_reads_what_people_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("a file")
    assert run_doctor(str(tmp_path / "runs"), "sqlite:///none.db", as_json=True) == 3
    said = json.loads(capsys.readouterr().out)
    problems = {f["subject"]: f["advice"] for f in said["findings"] if f["verdict"] == "problem"}
    assert said["problems"] == len(problems)
    assert problems["store"]


def test_a_file_that_is_not_a_database_is_a_problem(runs: Path) -> None:
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
    class Health(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 (http.server's name)
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_a_server_that_is_not_mlflow_is_a_problem(runs: Path, server: str) -> None:
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


def test_telemetry_switched_on_outside_is_noted(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    assert found("telemetry", runs, f"sqlite:///{runs}/mlflow.db").verdict == "note"


def contents(store: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def test_ten_damages_of_a_store_are_all_named_and_nothing_is_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, store = written(tmp_path)
    weights = store / "initial" / f"{'0' * 64}.pth"
    weights.parent.mkdir()
    weights.write_bytes(b"other weights")
    files = {kind: files_of(store, kind) for kind in KINDS}
    planted = {
        files["spec"][0]: b"{",
        files["attempt"][1]: b"[" * 100_000,
        files["ranks"][0]: b"",
        files["start"][0]: b"\xff\xfe",
        files["alive"][-1]: bytes(60),
        files["failure"][0]: b'{"kind": "killed"}\n',
        files["journal"][0]: files["journal"][0].read_bytes()[:100],
        files["manifest"][0]: b"null\n",
        files["weights"][-1]: b"WEIGHTS",
        files["result"][-1]: files["result"][-1].read_bytes().replace(b'"step": 40', b'"step": 41'),
        files["evaluation"][0]: b"[]\n",
        files["job"][0]: b"{}\n",
        weights: weights.read_bytes(),
    }
    for path, content in planted.items():
        path.write_bytes(content)
    gone = files["journal"][-2]
    gone.unlink()
    before, below = contents(store), sorted(tmp_path.rglob("*"))
    assert run_doctor(str(store), f"sqlite:///{store}/mlflow.db") == 3
    said = capsys.readouterr().out
    for path in planted:
        assert f"damaged: {path.relative_to(store)} " in said
    assert "lacks the lines before it, 0 to" in said
    assert contents(store) == before
    assert sorted(tmp_path.rglob("*")) == below, "nothing is made beside it either"


def test_looking_at_a_store_does_not_make_one(runs: Path) -> None:
    assert (
        found("store", runs, f"sqlite:///{runs}/mlflow.db").found
        == f"{runs} will be made by the first run"
    )
    assert not runs.exists()


def test_a_checkpoint_that_a_kill_left_unfinished_is_a_note_and_not_a_problem(
    tmp_path: Path,
) -> None:
    plan, store = written(tmp_path)
    left = store / "trials" / plan.trials[0].id / "checkpoints/step-00000090-2/ema.pt"
    left.parent.mkdir()
    left.write_bytes(b"half")
    finding = found("store", store, f"sqlite:///{store}/mlflow.db")
    assert finding.verdict == "note"
    assert "step-00000090-2" in finding.details[0]
