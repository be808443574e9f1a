"""MLflow mirrors the store: named runs, every point once whatever is sent again, and nothing lost while it is away."""

from __future__ import annotations

import math
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.plan import Plan, load_plan
from orchestrator.store import journals, open_store
from orchestrator.store.base import Store
from orchestrator.tracking.mlflow import Mirror, TrackingUnavailable, sync_sweep
from tests.sweeps import write_sweep
from tests.written_store import write_attempt, write_ended


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    file = write_sweep(tmp_path, norms="layer_norm, i_ln", steps=40)
    file.write_text(file.read_text().replace("evaluate: []", "evaluate: [embedded-test]"))
    return load_plan(file)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs/mlflow.db"


def runs(uri: str, experiment: str) -> dict[str, object]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def points(uri: str, run) -> list[tuple[str, int, float, int]]:
    client = MlflowClient(uri)
    history = [m for name in run.data.metrics for m in client.get_metric_history(run.info.run_id, name)]
    return [(m.key, m.step, m.value, m.timestamp) for m in history]


def test_runs_are_named_tagged_and_hold_the_axes(plan: Plan, store: Store, uri: str) -> None:
    for trial in plan.trials:
        write_ended(store, trial)
    sync_sweep(plan, store.uri, uri)
    found = runs(uri, plan.sweep)
    assert found.keys() == {trial.name for trial in plan.trials}
    for trial in plan.trials:
        run = found[trial.name]
        assert run.info.status == "FINISHED"
        assert {name: run.data.params[name] for name in trial.axes} == {k: str(v) for k, v in trial.axes.items()}
        assert run.data.tags["normsweep.trial"] == trial.id
        assert run.data.tags["normsweep.sweep"] == plan.sweep
        sent = {(m, s, t) for m, s, _, t in points(uri, run)}
        assert sent == {(p.metric, p.step, round(p.time * 1000)) for p in journals.read_points(store, trial.id)}


def test_sending_again_adds_nothing_even_without_a_cursor(plan: Plan, store: Store, uri: str) -> None:
    trial = plan.trials[0]
    write_attempt(store, trial, 20)
    sync_sweep(plan, store.uri, uri)
    before = points(uri, runs(uri, plan.sweep)[trial.name])
    sync_sweep(plan, store.uri, uri)
    run = runs(uri, plan.sweep)[trial.name]
    MlflowClient(uri).set_tag(run.info.run_id, "normsweep.cursor", "0/-1")
    sync_sweep(plan, store.uri, uri)
    assert sorted(points(uri, run)) == sorted(before)
    assert before


def test_what_two_attempts_journalled_stands_once(plan: Plan, store: Store, uri: str) -> None:
    trial = plan.trials[0]
    mirror = Mirror(uri, plan)
    write_attempt(store, trial, 20)
    mirror.sync(store, plan.trials)
    write_ended(store, trial)
    mirror.sync(store, plan.trials)
    run = runs(uri, plan.sweep)[trial.name]
    counted = Counter((metric, step) for metric, step, _, _ in points(uri, run))
    assert set(counted.values()) == {1}
    assert max(step for _, step in counted) == 40
    assert run.info.status == "FINISHED"


def test_a_trial_of_another_sweep_is_shown_in_this_one_and_marked(plan: Plan, store: Store, uri: str, tmp_path) -> None:
    trial = plan.trials[0]
    write_ended(store, trial)
    sync_sweep(plan, store.uri, uri)
    other = load_plan(write_sweep(tmp_path, name="other", norms="layer_norm", steps=40))
    assert other.trials[0].id == trial.id
    Mirror(uri, other).sync(store, other.trials, reused=frozenset({trial.id}))
    assert runs(uri, plan.sweep)[trial.name].data.tags["normsweep.reused"] == "false"
    assert runs(uri, "other")[trial.name].data.tags["normsweep.reused"] == "true"


def test_values_that_are_not_finite_arrive(plan: Plan, store: Store, uri: str) -> None:
    """NaN stays NaN; MLflow stores an infinity as the largest float."""
    trial = plan.trials[0]
    write_ended(store, trial, outcome="diverged")
    sync_sweep(plan, store.uri, uri)
    run = runs(uri, plan.sweep)[trial.name]
    last = {metric: value for metric, step, value, _ in sorted(points(uri, run), key=lambda p: p[1]) if step}
    assert math.isnan(last["feature/max_abs/group_0"])
    assert last["feature/mean_square/group_0"] > 1e308
    assert run.data.tags["normsweep.outcome"] == "diverged"


def test_the_report_is_one_run_whose_artifacts_are_replaced(plan: Plan, store: Store, uri: str, tmp_path: Path) -> None:
    for text in ("one", "two"):
        Mirror(uri, plan).log_report({"index.html": text})
    run = runs(uri, plan.sweep)["report"]
    (artifact,) = MlflowClient(uri).list_artifacts(run.info.run_id)
    assert artifact.path == "index.html"
    stored = tmp_path / "runs/mlartifacts" / plan.sweep / run.info.run_id / "artifacts/index.html"
    assert stored.read_text() == "two"


def _sync(arguments: tuple[Path, str, str]) -> None:
    sync_sweep(load_plan(arguments[0]), *arguments[1:])


def test_two_processes_may_open_a_new_database_at_once(plan: Plan, store: Store, uri: str) -> None:
    write_ended(store, plan.trials[0])
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_sync, [(plan.path, store.uri, uri)] * 2))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(plan.sweep)
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 1


@contextmanager
def table_away(uri: str, table: str) -> Iterator[None]:
    """MLflow's database fails in one place for a while."""
    for names in ((table, "away"), ("away", table)):
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
            database.execute("ALTER TABLE {} RENAME TO {}".format(*names))
        if names[0] == table:
            yield


@pytest.mark.parametrize("table", ["metrics", "params"])
def test_what_could_not_be_sent_is_sent_when_mlflow_is_back(plan: Plan, store: Store, uri: str, table: str) -> None:
    trial = plan.trials[0]
    mirror = Mirror(uri, plan)
    write_ended(store, trial)
    with table_away(uri, table), pytest.raises(TrackingUnavailable):
        mirror.sync(store, plan.trials)
    mirror.sync(store, plan.trials)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(plan.sweep)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["norm"] == trial.axes["norm"]
    sent = sorted((m, s) for m, s, _, _ in points(uri, run))
    assert sent == sorted((p.metric, p.step) for p in journals.read_points(store, trial.id))
    assert run.info.status == "FINISHED"


def test_a_server_that_is_away_is_told_quickly(plan: Plan) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(TrackingUnavailable, match="normsweep sync FILE"):
        Mirror(f"http://127.0.0.1:{port}", plan)
    assert time.monotonic() - began < 30
