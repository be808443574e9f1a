"""MLflow away, slow, hanging, failing, locked, restarted: all points arrive later, once, in order.

A real server stands behind a proxy that does the harm. Where no trial has to train, a store grows
beside it as trials let it grow, and MLflow follows as it follows a run.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

import orchestrator.tracking.mlflow  # noqa: F401 - sets MLflow's limits once, which stay
from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.plan.states import State
from orchestrator.run import mirroring
from orchestrator.run.mirroring import Follower
from orchestrator.run.options import RunOptions
from orchestrator.run.progress import Progress
from orchestrator.store import attempts, journals, open_store
from orchestrator.store.base import Store
from orchestrator.store.reading import read_trial
from orchestrator.tracking.base import TrackingUnavailable
from orchestrator.tracking.described import LARGEST, LOG_LARGEST
from orchestrator.tracking.mirror import Mirror
from tests.mlflow_server import (
    Answer,
    Fault,
    Forward,
    Proxy,
    Request,
    Server,
    mlflow_server,
    proxy_of,
)
from tests.scored_store import scored, write_evaluation
from tests.sweeps import normsweep, results, start, write_sweep
from tests.written_store import records, write_end, write_ended

STEPS = 1_000  # of which a trial has more values than MLflow takes in one request
PARTS = 8  # in which a journal grows
WITHIN_S = 200.0
Harm = Callable[[Proxy], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as made:
        yield made


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxy_of(server) as made:
        yield made


@pytest.fixture
def plan(tmp_path: Path, request: pytest.FixtureRequest) -> Plan:
    """A sweep under its own name, since all tests share a server."""
    name = "faults-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    return load_plan(write_sweep(tmp_path, name=name, norms="layer_norm, i_ln", steps=STEPS))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process look for news, and repeat what failed, at once instead of after seconds."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setattr(mirroring, "MIRROR_EVERY_S", 0.2)
    monkeypatch.setattr(mirroring, "SENT_WITHIN_S", WITHIN_S)


@pytest.fixture
def impatient(_quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client of this process give up in seconds, not more than a minute."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.05)


class Growing:
    """A run whose first trial trains, while MLflow follows: its journal grows on demand."""

    def __init__(self, store: Store, trial: Trial, progress: Progress, follower: Follower) -> None:
        self.progress, self.follower = progress, follower
        self._store, self._trial = store, trial
        self._attempt = attempts.new_attempt(store, trial, {"host": "bench-1"})
        lines = list(records(trial, STEPS, False))
        each = len(lines) // PARTS + 1
        self._parts = [lines[at : at + each] for at in range(0, len(lines), each)]
        self.grow()

    def grow(self) -> None:
        part = self._parts.pop(0)
        text = "".join(json.dumps(line) + "\n" for line in part)
        journals.put_segment(
            self._store, self._trial.id, self._attempt, part[0]["seq"], text.encode()
        )
        self.progress.changed(self._trial.id, State.RUNNING)

    def end(self) -> None:
        while self._parts:
            self.grow()
        write_end(self._store, self._trial, self._attempt, STEPS)
        self.progress.changed(self._trial.id, State.DONE)


@contextmanager
def training(plan: Plan, store: Store, proxy: Proxy) -> Iterator[Growing]:
    """A run of the plan's first trial, which ends when the block does; MLflow is at the proxy."""
    options = RunOptions(store.uri, proxy.uri)
    with (
        Progress(plan, {}, quiet=False, json_lines=False) as progress,
        Follower(plan, store, options, {}, frozenset(), progress) as follower,
    ):
        trains = Growing(store, plan.trials[0], progress, follower)
        yield trains
        trains.end()


def runs_of(server: Server, plan: Plan) -> dict[str, list[Run]]:
    """The runs that MLflow has of each trial, and at "" those of the sweep."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(plan.sweep)
    assert experiment is not None
    found: dict[str, list[Run]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        found.setdefault(run.data.tags.get("normsweep.trial", ""), []).append(run)
    return found


def journalled(store: Store, trial: Trial) -> Counter[tuple[str, int, int]]:
    points = read_trial(store, trial.id)[1]
    return Counter((point.metric, point.step, round(point.time * 1000)) for point in points)


def points_of(server: Server, run: Run) -> Counter[tuple[str, int, int]]:
    """The points that MLflow has of the journal: metric, step and ms."""
    client = MlflowClient(server.uri)
    return Counter(
        (point.key, point.step, point.timestamp)
        for metric in run.data.metrics
        if metric not in (LARGEST, LOG_LARGEST)  # which are made from others
        for point in client.get_metric_history(run.info.run_id, metric)
    )


def assert_whole(server: Server, plan: Plan, store: Store, *trials: Trial) -> None:
    """MLflow has one run of each trial, with every point of the journal once, and its end."""
    found = runs_of(server, plan)
    assert {trial: len(runs) for trial, runs in found.items()} == {
        "": 1,
        **{trial.id: 1 for trial in trials},
    }
    for trial in trials:
        (run,) = found[trial.id]
        assert points_of(server, run) == journalled(store, trial)
        assert run.info.status == "FINISHED"
        assert run.data.params["norm"] == trial.axes["norm"]
        assert len(run.inputs.dataset_inputs) == 1
        kept = {file.path for file in MlflowClient(server.uri).list_artifacts(run.info.run_id)}
        assert "spec.json" in kept


def assert_in_order(proxy: Proxy) -> None:
    """The server has got each point for the first time after all that were journalled before."""
    first: dict[str, dict[tuple[str, int], None]] = {}
    for request in proxy.taken:
        if request.what == "POST runs/log-batch":
            sent = request.json()
            of_run = first.setdefault(sent["run_id"], {})
            of_run |= {(m["key"], int(m.get("step", 0))): None for m in sent.get("metrics", ())}
    steps = [[step for _, step in of_run] for of_run in first.values() if of_run]
    assert steps and all(ordered == sorted(ordered) for ordered in steps)


@contextmanager
def refused(proxy: Proxy) -> Iterator[None]:
    proxy.close()
    try:
        yield
    finally:
        proxy.open()


@contextmanager
def hanging(proxy: Proxy) -> Iterator[None]:
    """Connections are accepted, and never answered."""
    over = threading.Event()

    def hang(request: Request, forward: Forward) -> None:
        over.wait()

    with having(proxy, hang):
        try:
            yield
        finally:
            over.set()


def failing(proxy: Proxy) -> AbstractContextManager[None]:
    page = Answer(500, b"<html>it failed</html>", "text/html")
    return having(proxy, lambda request, forward: page)


def cutting(proxy: Proxy) -> AbstractContextManager[None]:
    """Every answer breaks off in the middle; the server has carried out what was asked."""

    def cut(request: Request, forward: Forward) -> Answer:
        answer = forward()
        return Answer(answer.status, answer.body, answer.kind, sent=len(answer.body) // 2)

    return having(proxy, cut)


@contextmanager
def having(proxy: Proxy, fault: Fault) -> Iterator[None]:
    before, proxy.fault = proxy.fault, fault
    try:
        yield
    finally:
        proxy.fault = before


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("harm", [refused, hanging, failing, cutting])
def test_points_of_an_outage_arrive_afterwards_once_in_order_and_it_is_said_once(
    server: Server,
    proxy: Proxy,
    plan: Plan,
    store: Store,
    harm: Harm,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with training(plan, store, proxy) as trains:
        warnings = trains.progress.warnings
        until(lambda: any(request.what == "POST runs/log-batch" for request in proxy.taken))
        with harm(proxy):
            trains.grow()
            until(lambda: warnings)
            asked = len(proxy.asked)
            trains.grow()
            until(lambda: harm is refused or len(proxy.asked) > asked + 3)
            trains.grow()
    said = capfd.readouterr().err
    assert_whole(server, plan, store, plan.trials[0])
    assert_in_order(proxy)
    assert len(warnings) == 1
    assert re.search(r"(?s)MLflow at \S+ cannot be used: .*`normsweep sync .*tries again", said)
    assert said.count("cannot be used") == said.count("has what it lacked") == 1, said
    assert "Retrying" not in said and "Traceback" not in said


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("harm", [refused, hanging])
def test_a_run_begins_without_mlflow_and_sends_all_once_it_is_there(
    server: Server, proxy: Proxy, plan: Plan, store: Store, harm: Harm
) -> None:
    write_ended(store, plan.trials[1])  # before the run
    with harm(proxy):
        running = training(plan, store, proxy)
        trains = running.__enter__()
        assert trains.follower.mirror is None, "training has begun, and MLflow has not answered"
        trains.grow()
        until(lambda: trains.progress.warnings)
    running.__exit__(None, None, None)
    assert_whole(server, plan, store, *plan.trials)
    assert_in_order(proxy)
    assert len(trains.progress.warnings) == 1


def test_a_slow_mlflow_holds_nothing_up(
    server: Server, proxy: Proxy, plan: Plan, store: Store
) -> None:
    """Each of the first answers takes 2 s."""
    over = threading.Event()

    def slow(request: Request, forward: Forward) -> Answer:
        over.wait(2.0)
        return forward()

    proxy.fault = slow
    with training(plan, store, proxy) as trains:
        assert trains.follower.mirror is None, "training has begun, and MLflow has not answered"
        until(lambda: len(proxy.taken) >= 3)
        trains.grow()
        over.set()
    assert trains.progress.warnings == []
    assert_whole(server, plan, store, plan.trials[0])
    assert_in_order(proxy)


def test_what_mlflow_took_without_an_answer_is_there_once(
    server: Server, proxy: Proxy, plan: Plan, store: Store
) -> None:
    """The first answer of every kind is lost, and the client asks again."""
    lost: set[tuple[str, ...]] = set()

    def lose(request: Request, forward: Forward) -> Answer | None:
        answer = forward()
        is_json = request.method == "POST"
        kind = (request.what, *(sorted(request.json()) if is_json else ()))
        if kind in lost or answer.status >= 300:
            return answer
        lost.add(kind)
        return None

    proxy.fault = lose
    trial = plan.trials[0]
    write_ended(store, trial)
    again(lambda: Mirror(proxy.uri, plan).sync(store, plan.trials))
    asked = {what for what, *_ in lost}
    assert {"POST runs/create", "POST runs/log-batch", "POST runs/log-inputs"} <= asked
    assert {"POST experiments/create", "POST runs/set-tag", "PUT artifacts"} <= asked
    assert_whole(server, plan, store, trial)
    assert_in_order(proxy)


def again(work: Callable[[], object]) -> None:
    """Do it until MLflow is well enough for it."""
    for _ in range(100):
        try:
            work()
            return
        except TrackingUnavailable:
            continue
    raise AssertionError("it never went well")


def test_an_evaluation_that_mlflow_took_without_an_answer_is_there_once(
    server: Server, proxy: Proxy, plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record has no time, so it must not be sent again with another."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trial = plan.trials[0]
    write_ended(store, trial)
    Mirror(proxy.uri, plan).sync(store, plan.trials)
    write_evaluation(store, trial, "embedded-test", {"a.png": scored(30.0)})
    left = 3

    def lose(request: Request, forward: Forward) -> Answer | None:
        nonlocal left
        answer = forward()
        left -= (is_lost := request.what == "POST runs/log-batch" and left > 0)
        return None if is_lost else answer

    proxy.fault = lose

    def send() -> None:
        mirror = Mirror(proxy.uri, plan)
        mirror.sync(store, plan.trials)
        mirror.send_evaluations(store, plan.trials)

    again(send)
    assert left == 0
    (run,) = runs_of(server, plan)[trial.id]
    history = MlflowClient(server.uri).get_metric_history(
        run.info.run_id, "eval/embedded-test/fp32/psnr"
    )
    assert [point.value for point in history] == [30.0]
    write_evaluation(store, trial, "embedded-test", {"a.png": scored(31.0)})
    send()
    (run,) = runs_of(server, plan)[trial.id]
    assert run.data.metrics["eval/embedded-test/fp32/psnr"] == 31.0, "the newest is shown"


@pytest.mark.usefixtures("impatient")
def test_a_frozen_server_that_goes_on_has_each_run_once(
    server: Server, proxy: Proxy, plan: Plan, store: Store
) -> None:
    """It is stopped before it creates a run, and later does all that it was asked meanwhile."""
    frozen = threading.Event()

    def freeze(request: Request, forward: Forward) -> Answer:
        if request.what == "POST runs/create" and not frozen.is_set():
            for process in server.processes():
                process.suspend()
            frozen.set()
        return forward()

    proxy.fault = freeze
    try:
        with training(plan, store, proxy) as trains:
            until(lambda: trains.progress.warnings)
            trains.grow()
            for process in server.processes():
                process.resume()
    finally:
        for process in server.processes():
            process.resume()
    assert frozen.is_set()
    assert_whole(server, plan, store, plan.trials[0])


@pytest.mark.usefixtures("impatient")
def test_points_of_the_time_in_which_the_servers_database_was_locked_arrive_afterwards(
    server: Server, proxy: Proxy, plan: Plan, store: Store
) -> None:
    """Each request waits for the lock in the server when the client has long asked again."""
    with training(plan, store, proxy) as trains:
        until(lambda: any(request.what == "POST runs/log-batch" for request in proxy.taken))
        database = server.folder / "server.db"
        other = sqlite3.connect(database, isolation_level=None, timeout=WITHIN_S)
        other.execute("BEGIN EXCLUSIVE")
        trains.grow()
        until(lambda: trains.progress.warnings)
        trains.grow()
        other.execute("ROLLBACK")
        other.close()
    assert_whole(server, plan, store, plan.trials[0])


def test_points_of_the_time_in_which_the_server_was_restarted_arrive_afterwards(
    server: Server, proxy: Proxy, plan: Plan, store: Store
) -> None:
    with training(plan, store, proxy) as trains:
        until(lambda: any(request.what == "POST runs/log-batch" for request in proxy.taken))
        server.kill()
        try:
            trains.grow()
            until(lambda: trains.progress.warnings)
            trains.grow()
        finally:
            server.start()
    assert_whole(server, plan, store, plan.trials[0])
    assert_in_order(proxy)


def named_command(said: str) -> list[str]:
    """The words of the last `normsweep sync` that a run names."""
    *_, command = re.findall(r"`(normsweep sync [^`]+)`", said)
    return shlex.split(command)


@pytest.mark.parametrize("harm", [refused, hanging])
def test_the_end_of_a_run_is_bounded_and_names_the_command_that_sends_the_rest(
    server: Server,
    proxy: Proxy,
    plan: Plan,
    store: Store,
    tmp_path: Path,
    harm: Harm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1000")
    monkeypatch.setattr(mirroring, "SENT_WITHIN_S", 1.0)
    running = training(plan, store, proxy)
    trains = running.__enter__()
    until(lambda: any(request.what == "POST runs/log-batch" for request in proxy.taken))
    with harm(proxy):
        trains.grow()
        running.__exit__(None, None, None)  # and not only after 1,000 s
        trains.follower.log_report({"index.html": "the report"})
        name, *words = named_command(trains.progress.warnings[-1])
        (run,) = runs_of(server, plan)[plan.trials[0].id]
        before = points_of(server, run)
    assert name == "normsweep"
    assert before.total() < journalled(store, plan.trials[0]).total()
    normsweep(tmp_path, *words)
    assert_whole(server, plan, store, plan.trials[0])
    assert_in_order(proxy)


def test_a_run_beside_a_server_that_hangs_ends_soon_and_sync_sends_all(
    server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real run, with the client's real patience: one call of it would take more than a minute."""
    for name in ("TIMEOUT", "MAX_RETRIES", "BACKOFF_FACTOR", "BACKOFF_JITTER"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}")
    file = write_sweep(tmp_path, name="beside-one-that-hangs", steps=4)
    plan = load_plan(file)
    with hanging(proxy):
        process = start(file, "--tracking", proxy.uri)
        output, _ = process.communicate(timeout=280)
        returned = time.time()
    assert process.returncode == 0, output
    last = max(result["ended"] for result in results(tmp_path).values())
    # MLflow gets 15 s, and Ray and the report a few. Before, it took 196 s.
    assert returned - last < 60, output
    assert "within 15 s of the last trial" in output
    assert proxy.taken == []
    _, *words = named_command(output)
    normsweep(tmp_path, *words)
    store = open_store(str(tmp_path / "runs"))
    assert_whole(server, plan, store, *plan.trials)
    (own,) = runs_of(server, plan)[""]
    kept = {file.path for file in MlflowClient(server.uri).list_artifacts(own.info.run_id)}
    assert "index.html" in kept
