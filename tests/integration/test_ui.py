"""`run_ui` in its own process, asked over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Plan
from orchestrator.report.page import write_report
from orchestrator.store import open_store
from orchestrator.tracking.address import parse
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.sync import sync_sweep
from orchestrator.ui import _open_once_it_answers, run_ui, server_command
from tests.mlflow_server import START_DEADLINE_S, wait_until_it_answers
from tests.ranks import free_port
from tests.sweeps import plan_of
from tests.written_store import write_sweep

SWEEP = """# Shown
axes: {backbone: [swinir-tiny], norm: [layer_norm, i_ln], task: [sr_x2], width: [12]}
data: {evaluate: [embedded-test]}
training: {steps: 20, batch_size: 4, patch_size_px: 16}
"""
SERVE = (
    "import sys; from orchestrator.ui import run_ui; "
    "sys.exit(run_ui(sys.argv[1], '127.0.0.1', int(sys.argv[2])))"
)


def ask(port: int, path: str, body: object = None) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: bytes = answer.read()
        return content


def check_what_is_shown(port: int) -> None:
    """The experiment is shown by its name, its runs by distinct names, and the report is there."""
    found = json.loads(ask(port, "api/2.0/mlflow/experiments/search", {"max_results": 10}))[
        "experiments"
    ]
    experiments = {experiment["name"]: experiment["experiment_id"] for experiment in found}
    assert "shown" in experiments
    runs = json.loads(
        ask(port, "api/2.0/mlflow/runs/search", {"experiment_ids": [experiments["shown"]]})
    )["runs"]
    names = {run["info"]["run_name"]: run["info"]["run_id"] for run in runs}
    assert set(names) == {
        "layer_norm sr_x2 w12 d2 swinir-tiny s0",
        "i_ln sr_x2 w12 d2 swinir-tiny s0",
        "shown",
    }
    assert b"Sweep report" in ask(port, f"get-artifact?path=index.html&run_uuid={names['shown']}")


def check_where_the_page_leads(plan: Plan, store: str, server: str) -> None:
    page = Path(write_report(plan, store, server).page).read_text()
    runs = Mirror(server, plan).links
    assert set(runs) == {trial.id for trial in plan.trials}
    for trial, run in runs.items():
        assert run.startswith(f"{server}/#/experiments/1/runs/")
        assert f'<a href="{run}"><code>{trial}</code></a>' in page


def test_the_server_shows_runs_and_report_and_ends_with_ctrl_c_and_all_it_started(
    tmp_path: Path,
) -> None:
    plan, store = plan_of(tmp_path, SWEEP, "shown"), str(tmp_path / "runs")
    tracking, port = f"sqlite:///{store}/mlflow.db", free_port()
    write_sweep(open_store(store), plan)
    sync_sweep(plan, store, tracking)
    write_report(plan, store, tracking)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (
        (tmp_path / "said").open("wb") as said,
        subprocess.Popen(
            [sys.executable, "-c", SERVE, tracking, str(port)],
            env=environment,
            cwd=tmp_path,
            stdout=said,
            stderr=said,
        ) as server,
    ):
        try:
            wait_until_it_answers(port, server)
            check_what_is_shown(port)
            check_where_the_page_leads(plan, store, f"http://127.0.0.1:{port}")
            started = psutil.Process(server.pid).children(recursive=True)
            assert started
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == 0
            _, left = psutil.wait_procs(started, timeout=15)
            assert left == []
        finally:
            server.kill()
    text = (tmp_path / "said").read_text()
    assert "mlflow server" in text
    (link,) = re.findall(rf"Open (http://127.0.0.1:{port}/#\S+)", text)
    assert "/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=" in link
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "said", "shown.yaml"]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_ends_the_server_also_where_ctrl_c_was_ignored_at_the_start(
    sign: signal.Signals,
) -> None:
    """As in the background of a shell, or under nohup."""
    serve = (
        "import sys; from orchestrator.ui import _serve; "
        "sys.exit(_serve([sys.executable, '-c', 'input()']))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = psutil.Popen(
            [sys.executable, "-c", serve], env=environment, stdin=subprocess.PIPE
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        deadline = time.monotonic() + START_DEADLINE_S
        while not (started := process.children()):
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline, "it started nothing"
            time.sleep(0.05)
        process.send_signal(sign)
        assert process.wait(30) == 0
        _, left = psutil.wait_procs(started, timeout=15)
        assert left == []
    finally:
        process.stdin.close()
        if process.is_running():
            process.kill()


def database(folder: Path) -> str:
    (folder / "mlflow.db").touch()
    return f"sqlite:///{folder}/mlflow.db"


def test_a_port_in_use_is_named_with_a_free_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            EnvironmentProblem, match=f"Port {port} on 127.0.0.1 is in use"
        ) as error:
            run_ui(database(tmp_path), "127.0.0.1", port)
    assert error.value.exit_code == 3
    (free,) = re.findall(r"--port (\d+)", str(error.value))
    assert int(free) != port
    socket.create_server(("127.0.0.1", int(free))).close()


def test_a_database_that_is_not_there_is_the_users_error_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="normsweep run"):
        run_ui(f"sqlite:///{tmp_path}/mlflow.db", "127.0.0.1", free_port())
    assert list(tmp_path.iterdir()) == []


def test_an_address_of_another_machine_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an address of this machine"):
        run_ui(database(tmp_path), "192.0.2.1", free_port())


def test_addresses_are_absolute_wherever_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    database(tmp_path)
    command = server_command(parse("sqlite:///mlflow.db"), "127.0.0.1", 5000)
    assert f"sqlite:///{tmp_path}/mlflow.db" in command
    assert str(tmp_path / "mlartifacts") in command


def test_a_moved_store_is_shown_with_its_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This shows in the addresses that its database has when the server starts."""
    old, new = tmp_path / "old", tmp_path / "new #1"
    new.mkdir()
    with closing(sqlite3.connect(new / "mlflow.db")) as made:
        made.executescript(
            "CREATE TABLE experiments (experiment_id, name, artifact_location);"
            "CREATE TABLE runs (run_uuid, experiment_id, artifact_uri);"
            "INSERT INTO experiments VALUES "
            f"(1, 'swept', '{old.as_uri()}/mlartifacts/swept'), (2, 'other', '{old.as_uri()}/x');"
            "INSERT INTO runs VALUES "
            f"('a', 1, '{old.as_uri()}/mlartifacts/swept/a/artifacts'), ('b', 1, 's3://x/b');"
        )
    monkeypatch.setattr("orchestrator.ui._serve", lambda command: 0)
    assert run_ui(f"sqlite:///{new}/mlflow.db", "127.0.0.1", free_port()) == 0
    with closing(sqlite3.connect(new / "mlflow.db")) as kept:
        uris = kept.execute("SELECT artifact_uri FROM runs ORDER BY 1").fetchall()
        locations = kept.execute("SELECT artifact_location FROM experiments ORDER BY 1").fetchall()
    assert uris == [(f"{new.as_uri()}/mlartifacts/swept/a/artifacts",), ("s3://x/b",)]
    assert locations == [(f"{new.as_uri()}/mlartifacts/swept",), (f"{old.as_uri()}/x",)]


def test_hosts_are_named_only_beyond_loopback(tmp_path: Path) -> None:
    tracking = database(tmp_path)
    assert "--allowed-hosts" not in server_command(parse(tracking), "127.0.0.1", 5000)
    command = server_command(parse(tracking), "0.0.0.0", 5000)
    hosts = command[command.index("--allowed-hosts") + 1].split(",")
    assert {"localhost:*", f"{socket.gethostname()}:*", "10.*"} <= set(hosts)
    assert "*" not in hosts


def test_a_server_that_is_there_already_is_only_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_ui("http://tracking.example:5000", "127.0.0.1", 5000) == 0
    assert "http://tracking.example:5000" in capsys.readouterr().out
    assert run_ui("http://ada:s3cr3t@tracking.example:5000", "127.0.0.1", 5000) == 0
    assert (
        capsys.readouterr().out
        == "The runs are already served: open http://tracking.example:5000\n"
    )


@pytest.mark.parametrize(
    ("is_desktop", "opens", "expected"), [(True, True, 1), (True, False, 0), (False, True, 0)]
)
def test_a_browser_is_opened_on_a_desktop_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, is_desktop: bool, opens: bool, expected: int
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("orchestrator.ui.is_desktop", lambda: is_desktop)
    monkeypatch.setattr("webbrowser.open", opened.append)
    run_ui("http://tracking.example:5000", "127.0.0.1", 5000, opens=opens)
    assert opened == ["http://tracking.example:5000"] * expected


def test_the_browser_waits_until_the_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    answers = iter(["refused", "refused", None])
    monkeypatch.setattr("orchestrator.ui.why_away", lambda server: next(answers))
    monkeypatch.setattr("orchestrator.ui.ASK_EVERY_S", 0)
    monkeypatch.setattr("webbrowser.open", opened.append)
    _open_once_it_answers("http://127.0.0.1:5000", "a page")
    assert opened == ["a page"]
    assert next(answers, "asked to the end") == "asked to the end"


def test_a_tracker_without_pages_says_so() -> None:
    with pytest.raises(UserError, match="memory:mine: only MLflow has pages"):
        run_ui("memory:mine", "127.0.0.1", 5000)
