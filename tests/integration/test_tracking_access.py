"""MLflow behind a password: a real server, and before it a proxy that asks for the password."""

from __future__ import annotations

import base64
import http.client
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from orchestrator.doctor import examine
from orchestrator.plan import Plan, load_plan
from orchestrator.store import open_store
from orchestrator.tracking.base import TrackingUnavailable
from orchestrator.tracking.health import look
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.sync import sync_sweep
from tests.mlflow_server import mlflow_server
from tests.s3 import QuietHandler
from tests.sweeps import start, write_sweep
from tests.written_store import write_ended

USER, SECRET = "ada", "s3cr3t-w0rd"
WANTED = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()


@dataclass
class Guarded:
    """The proxy's port, and the paths that it was asked for."""

    port: int
    asked: list[str] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def uri_with_password(self) -> str:
        return f"http://{USER}:{SECRET}@127.0.0.1:{self.port}"


def _guard(port: int, guarded: Guarded) -> type[BaseHTTPRequestHandler]:
    class Handler(QuietHandler):
        def _answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            guarded.asked.append(self.path)
            status, body, kind = 401, b"Who are you?", "text/plain"
            if self.headers.get("Authorization") == WANTED:
                upstream = http.client.HTTPConnection("127.0.0.1", port)
                upstream.request(
                    self.command, self.path, sent, {"Content-Type": "application/json"}
                )
                answer = upstream.getresponse()
                status, body, kind = (
                    answer.status,
                    answer.read(),
                    answer.getheader("Content-Type", "text/plain"),
                )
                upstream.close()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    return Handler


@pytest.fixture(scope="module")
def mlflow_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as server:
        yield server.port


@pytest.fixture
def guarded(mlflow_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # so that what `sign_in` sets is undone afterwards
        monkeypatch.delenv(name)
    made = Guarded(0)
    with ThreadingHTTPServer(("127.0.0.1", 0), _guard(mlflow_port, made)) as proxy:
        made.port = proxy.server_port
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield made
        proxy.shutdown()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_sweep(tmp_path, steps=20))


def files_with(secret: str, folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]


def watched(process: subprocess.Popen[str]) -> tuple[str, set[str]]:
    """Wait for a run; returns what it printed, and the arguments of all its processes meanwhile."""
    lines: set[str] = set()

    def watch() -> None:
        while process.poll() is None:
            try:
                ours = psutil.Process(process.pid)
                for one in [ours, *ours.children(recursive=True)]:
                    lines.add(" ".join(one.cmdline()))
            except psutil.Error:
                pass
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate(timeout=280)
    watcher.join()
    return output, lines


def test_a_run_signs_in_and_the_password_is_written_nowhere(
    guarded: Guarded, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path, name="signed", steps=2)
    flags = ["--tracking", guarded.uri_with_password]
    process = start(file, *flags)
    output, lines = watched(process)
    assert process.returncode == 0, output
    assert "MLflow at" not in output
    assert re.search(rf"Runs: +{guarded.uri}/#/experiments/\d+/runs\?", output)
    assert SECRET not in output
    assert files_with(SECRET, tmp_path) == []
    listed = [line for line in lines if SECRET in line]
    assert len(listed) <= 1  # the command itself, until it removes the password
    assert any("trainers" in line for line in lines)
    assert any("log-batch" in path for path in guarded.asked)


def test_without_a_password_the_variables_are_named_and_the_given_one_is_not_shown(
    guarded: Guarded, plan: Plan, tmp_path: Path
) -> None:
    with pytest.raises(
        TrackingUnavailable, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    ):
        Mirror(guarded.uri, plan)
    wrong = guarded.uri_with_password.replace("ada", "bob")
    with pytest.raises(TrackingUnavailable, match="401") as told:
        Mirror(wrong, plan)
    assert SECRET not in str(told.value)


def test_doctor_tries_to_sign_in(guarded: Guarded, tmp_path: Path) -> None:
    finding = next(
        f for f in examine(str(tmp_path / "runs"), guarded.uri) if f.subject == "tracking"
    )
    assert finding.verdict == "problem"
    assert "401" in finding.found
    assert "MLFLOW_TRACKING_PASSWORD" in finding.advice
    health = look(guarded.uri_with_password)
    assert health.is_well
    assert SECRET not in health.found


def test_doctor_says_what_was_deleted_on_a_server(
    guarded: Guarded, plan: Plan, tmp_path: Path
) -> None:
    store = open_store(str(tmp_path / "runs"))
    write_ended(store, plan.trials[0])
    sync_sweep(plan, store.uri, guarded.uri_with_password)
    mirror = Mirror(guarded.uri, plan)
    mirror._tracker._client.delete_experiment(mirror._tracker._experiment)
    health = look(guarded.uri)
    assert not health.is_well
    assert f"{plan.sweep} is deleted" in health.found
    (note,) = sync_sweep(plan, store.uri, guarded.uri)
    assert "restored" in note
    assert look(guarded.uri).is_well
