"""MLflow mirrors the store: runs have names, every point is there once whatever is sent again, and
nothing is lost while MLflow is away.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import socket
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.plan.states import State
from orchestrator.report.page import write_report
from orchestrator.run import mirroring
from orchestrator.run.options import RunOptions
from orchestrator.run.progress import Progress
from orchestrator.run.runner import run_sweep
from orchestrator.store import attempts, journals
from orchestrator.store.base import Store
from orchestrator.store.trials import looks_at, read_trial
from orchestrator.tracking.address import parse
from orchestrator.tracking.base import TrackingUnavailable
from orchestrator.tracking.health import look
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.sync import sync_sweep
from orchestrator.tracking.views import TAG
from tests.counted_store import CountedStore
from tests.sweeps import write_sweep
from tests.written_store import mirrored, write_attempt, write_ended
from trainers.data.lookup import find_set

Keep = Callable[[Path, Path], object]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    file = write_sweep(tmp_path, norms="layer_norm, i_ln", steps=40)
    file.write_text(file.read_text().replace("evaluate: []", "evaluate: [embedded-test]"))
    return load_plan(file)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow database, made once, since its migrations take seconds."""
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path: Path, made: Path) -> str:
    (tmp_path / "runs").mkdir(exist_ok=True)
    shutil.copy(made, tmp_path / "runs/mlflow.db")
    return f"sqlite:///{tmp_path}/runs/mlflow.db"


@pytest.fixture
def mirror(uri: str, plan: Plan) -> Mirror:
    return Mirror(uri, plan)


def runs(uri: str, experiment: str) -> dict[str, object]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def points(uri: str, run) -> list[tuple[str, int, float, int]]:
    client = MlflowClient(uri)
    history = [
        m for name in run.data.metrics for m in client.get_metric_history(run.info.run_id, name)
    ]
    return [(m.key, m.step, m.value, m.timestamp) for m in history]


def how_often(uri: str, run) -> Counter[tuple[str, int]]:
    """The number of points that MLflow has for each (metric, step)."""
    return Counter((metric, step) for metric, step, _, _ in points(uri, run))


def test_runs_are_named_tagged_and_hold_the_axes(plan: Plan, store: Store, uri: str) -> None:
    for trial in plan.trials:
        write_ended(store, trial)
    sync_sweep(plan, store.uri, uri)
    found = runs(uri, plan.sweep)
    assert found.keys() == {plan.sweep, *(trial.name for trial in plan.trials)}
    for trial in plan.trials:
        run = found[trial.name]
        assert run.info.status == "FINISHED"
        assert {name: run.data.params[name] for name in trial.axes} == {
            k: str(v) for k, v in trial.axes.items()
        }
        assert run.data.tags["normsweep.trial"] == trial.id
        assert run.data.tags["normsweep.sweep"] == plan.sweep
        sent = {(m, s, t) for m, s, _, t in points(uri, run)}
        assert sent == set(mirrored(read_trial(store, trial.id)[1]))


def artifact(uri: str, run, path: str) -> str:
    return Path(MlflowClient(uri).download_artifacts(run.info.run_id, path)).read_text()


def test_a_trials_run_is_below_its_sweeps_and_says_what_was_trained_and_where_it_is(
    plan: Plan, trial: Trial, store: Store, uri: str
) -> None:
    write_ended(store, trial)
    sync_sweep(plan, store.uri, uri)
    found = runs(uri, plan.sweep)
    run, params = found[trial.name], found[trial.name].data.params
    assert run.data.tags["mlflow.parentRunId"] == found[plan.sweep].info.run_id
    assert params["norm.eps"] == str(trial.spec.model.norm.knobs["eps"])
    assert params["backbone.embed_dim"] == "8"
    assert params["lr"] == "0.001"
    assert params["betas"] == "[0.9,0.99]"
    assert params["observe.evaluate"] == "embedded-test"
    assert json.loads(artifact(uri, run, "spec.json"))["training"]["lr"] == 1e-3
    data = {
        one.dataset.name: (one.dataset.digest, one.tags[0].value)
        for one in run.inputs.dataset_inputs
    }
    sets = {trial.spec.data.train: "training", "embedded-test": "evaluation"}
    assert data == {name: (find_set(name).sha256[:36], kind) for name, kind in sets.items()}
    (weights,) = Path(run.data.tags["normsweep.weights"]).glob("ema.pt")
    link = json.loads(artifact(uri, run, "weights.json"))
    assert weights == Path(link["store"], link["key"], "ema.pt")
    assert link["files"]["ema.pt"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_why_a_trial_failed_is_said_until_it_is_done(
    plan: Plan, trial: Trial, store: Store, uri: str, mirror: Mirror
) -> None:
    attempt = write_attempt(store, trial, 20)
    attempts.write_failure(store, trial.id, attempt, "killed", "rank 0\nits log", final=True)
    mirror.sync(store, plan.trials)
    run = runs(uri, plan.sweep)[trial.name]
    assert run.info.status == "FAILED"
    assert run.data.tags["normsweep.failure"] == "killed: rank 0"
    assert run.data.tags["normsweep.attempts"] == "1"
    assert artifact(uri, run, "failures/attempt-1.txt") == "rank 0\nits log"
    write_ended(store, trial)
    sync_sweep(plan, store.uri, uri)
    tags = runs(uri, plan.sweep)[trial.name].data.tags
    assert (tags["normsweep.failure"], tags["normsweep.attempts"]) == ("", "2")


def test_runs_of_an_older_version_are_found_described_and_not_doubled(
    plan: Plan, trial: Trial, store: Store, uri: str, tmp_path: Path
) -> None:
    """It had the axes as params, and a run `report` beside the trials'."""
    write_attempt(store, trial, 20)
    client = MlflowClient(uri)
    experiment = client.create_experiment(
        plan.sweep, artifact_location=(tmp_path / "artifacts").as_uri()
    )
    tags = {"normsweep.trial": trial.id, "normsweep.cursor": "0/-1"}
    old = client.create_run(experiment, tags=tags, run_name=trial.name)
    client.log_param(old.info.run_id, "norm", trial.axes["norm"])
    client.log_param(old.info.run_id, "observe.log_every", "as it was")
    report = client.create_run(experiment, tags={"normsweep.report": plan.sweep}, run_name="report")
    sync_sweep(plan, store.uri, uri)
    found = runs(uri, plan.sweep)
    assert {name: run.info.run_id for name, run in found.items()} == {
        trial.name: old.info.run_id,
        plan.sweep: report.info.run_id,
    }
    assert found[trial.name].data.params["observe.log_every"] == "as it was"
    assert "norm.eps" in found[trial.name].data.params
    assert found[trial.name].data.tags["mlflow.parentRunId"] == report.info.run_id


def test_the_saved_view_is_made_once_and_is_the_users_from_then_on(
    plan: Plan, store: Store, uri: str
) -> None:
    Mirror(uri, plan)
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(plan.sweep)
    assert found is not None
    view = json.loads(found.tags[TAG])
    assert {"params.`norm`", "metrics.`val/embedded-test/psnr`"} <= set(
        json.loads(view["state"])["selectedColumns"]
    )
    client.set_experiment_tag(found.experiment_id, TAG, "mine")
    Mirror(uri, plan)
    assert client.get_experiment(found.experiment_id).tags[TAG] == "mine"


def test_sending_again_adds_nothing_even_without_a_cursor(
    plan: Plan, trial: Trial, store: Store, uri: str
) -> None:
    write_attempt(store, trial, 20)
    sync_sweep(plan, store.uri, uri)
    before = points(uri, runs(uri, plan.sweep)[trial.name])
    sync_sweep(plan, store.uri, uri)
    run = runs(uri, plan.sweep)[trial.name]
    MlflowClient(uri).set_tag(run.info.run_id, "normsweep.cursor", "0/-1")
    sync_sweep(plan, store.uri, uri)
    assert sorted(points(uri, run)) == sorted(before)
    assert before


def test_what_two_attempts_journalled_is_there_once(
    plan: Plan, trial: Trial, store: Store, uri: str, mirror: Mirror
) -> None:
    write_attempt(store, trial, 20)
    mirror.sync(store, plan.trials)
    write_ended(store, trial)
    mirror.sync(store, plan.trials)
    run = runs(uri, plan.sweep)[trial.name]
    counted = Counter((metric, step) for metric, step, _, _ in points(uri, run))
    assert set(counted.values()) == {1}
    assert max(step for _, step in counted) == 40
    assert run.info.status == "FINISHED"


def test_a_trial_that_was_mirrored_to_its_end_costs_nothing_more(
    plan: Plan, store: Store, uri: str
) -> None:
    counted = CountedStore(store)
    for trial in plan.trials:
        write_attempt(store, trial, 20)
        write_ended(store, trial)
    mirror = Mirror(uri, plan)
    mirror.sync(counted, plan.trials)
    counted.requests()
    mirror.sync(counted, plan.trials)
    assert counted.requests() == {}, "the same process remembers"
    Mirror(uri, plan).sync(counted, plan.trials)
    assert counted.requests() == {"list": 2, "get": 2}, (
        "another one asks for the results, and for no segment"
    )
    Mirror(uri, plan).sync(
        counted, plan.trials, looks=looks_at(store, [trial.id for trial in plan.trials])
    )
    assert counted.requests() == {}, "or is told what they are"


def test_a_running_trial_costs_one_list_and_reads_of_new_segments(
    plan: Plan, store: Store, uri: str
) -> None:
    counted, trial = CountedStore(store), plan.trials[0]
    attempt = write_attempt(store, trial, 20)
    mirror, heard = Mirror(uri, plan), frozenset({trial.id})
    mirror.sync(counted, [trial], heard=heard)
    counted.requests()
    mirror.sync(counted, [trial], heard=heard)
    assert counted.requests() == {"list": 1}
    first = max(segment.first_seq for segment in journals.segments(store, trial.id))
    content = next(
        store.get(segment.key)
        for segment in journals.segments(store, trial.id)
        if segment.first_seq == first
    )
    last = json.loads(content.splitlines()[-1])
    line = {**last, "seq": last["seq"] + 1, "step": 25, "values": {"train/loss": 0.5}}
    journals.put_segment(store, trial.id, attempt, line["seq"], json.dumps(line).encode() + b"\n")
    mirror.sync(counted, [trial])
    assert counted.requests() == {"list": 1, "get": 1}, "what is new is a sign of life as well"
    run = runs(uri, plan.sweep)[trial.name]
    assert run.info.status == "RUNNING"
    assert ("train/loss", 25) in {(metric, step) for metric, step, _, _ in points(uri, run)}


def test_a_run_mirrors_the_trials_that_move_and_asks_for_no_others(
    plan: Plan, store: Store, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, moving = CountedStore(store), plan.trials[0]
    looks = looks_at(store, [trial.id for trial in plan.trials])
    options = RunOptions(store.uri, uri)
    monkeypatch.setattr(mirroring, "MIRROR_EVERY_S", 0.05)
    with (
        Progress(plan, {}, quiet=True, json_lines=False) as progress,
        mirroring.Follower(plan, counted, options, looks, frozenset(), progress) as follower,
    ):
        until = time.monotonic() + 60
        while not follower.has_begun:
            assert time.monotonic() < until
            time.sleep(0.05)
        counted.requests()
        write_attempt(store, moving, 20)
        progress.changed(moving.id, State.RUNNING)
        while not (found := runs(uri, plan.sweep)) or not found[moving.name].data.metrics:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert {key.split("/")[1] for _, key in counted.asked} == {moving.id}
        write_ended(store, moving)  # which is sent when the run ends
        progress.changed(moving.id, State.DONE)
    assert runs(uri, plan.sweep)[moving.name].info.status == "FINISHED"


def test_a_trial_that_is_trained_again_is_noticed(
    plan: Plan, trial: Trial, store: Store, uri: str, mirror: Mirror
) -> None:
    """By the sweep that started it, and by `sync`."""
    write_ended(store, trial)
    mirror.sync(store, plan.trials)
    for again in (
        lambda: mirror.sync(store, plan.trials, heard=frozenset({trial.id})),
        lambda: _sync((plan.path, store.uri, uri)),
    ):
        store.delete(f"trials/{trial.id}/result.json")
        attempts.say_alive(store, trial.id, attempts.new_attempt(store, trial, {}))
        again()
        assert runs(uri, plan.sweep)[trial.name].info.status == "RUNNING"
        write_ended(store, trial)
        again()
        assert runs(uri, plan.sweep)[trial.name].info.status == "FINISHED"
    counted = how_often(uri, runs(uri, plan.sweep)[trial.name])
    assert set(counted.values()) == {1}


def test_every_point_arrives_once_where_the_journals_are_joined_meanwhile(
    plan: Plan, trial: Trial, store: Store, uri: str, mirror: Mirror
) -> None:
    write_attempt(store, trial, 20)
    mirror.sync(store, [trial], heard=frozenset({trial.id}))
    # Joins the journals of both attempts. The first one's was sent from its single segments.
    write_ended(store, trial)
    mirror.sync(store, [trial])
    sync_sweep(plan, store.uri, uri)
    sent = how_often(uri, runs(uri, plan.sweep)[trial.name])
    expected = mirrored(read_trial(store, trial.id)[1])
    assert sent == Counter((metric, step) for metric, step, _ in expected)


def test_a_trial_of_another_sweep_is_shown_in_this_one_and_marked(
    plan: Plan, trial: Trial, store: Store, uri: str, tmp_path
) -> None:
    write_ended(store, trial)
    sync_sweep(plan, store.uri, uri)
    other = load_plan(write_sweep(tmp_path, name="other", norms="layer_norm", steps=40))
    assert other.trials[0].id == trial.id
    Mirror(uri, other).sync(store, other.trials, reused=frozenset({trial.id}))
    assert runs(uri, plan.sweep)[trial.name].data.tags["normsweep.reused"] == "false"
    assert runs(uri, "other")[trial.name].data.tags["normsweep.reused"] == "true"


def test_values_that_are_not_finite_arrive(
    plan: Plan, trial: Trial, store: Store, uri: str
) -> None:
    """NaN stays NaN. MLflow stores an infinity as the largest float."""
    write_ended(store, trial, outcome="diverged")
    sync_sweep(plan, store.uri, uri)
    run = runs(uri, plan.sweep)[trial.name]
    last = {
        metric: value
        for metric, step, value, _ in sorted(points(uri, run), key=lambda p: p[1])
        if step
    }
    assert math.isnan(last["feature/max_abs/group_0"])
    assert last["feature/mean_square/group_0"] > 1e308
    assert run.data.tags["normsweep.outcome"] == "diverged"


def test_the_report_is_one_run_whose_artifacts_are_replaced(
    plan: Plan, store: Store, uri: str, tmp_path: Path
) -> None:
    for text in ("one", "two"):
        Mirror(uri, plan).log_report({"index.html": text})
    run = runs(uri, plan.sweep)[plan.sweep]
    (artifact,) = MlflowClient(uri).list_artifacts(run.info.run_id)
    assert artifact.path == "index.html"
    stored = tmp_path / "runs/mlartifacts" / plan.sweep / run.info.run_id / "artifacts/index.html"
    assert stored.read_text() == "two"


def _sync(arguments: tuple[Path, str, str]) -> None:
    sync_sweep(load_plan(arguments[0]), *arguments[1:])


def test_two_processes_may_open_a_new_database_at_once(
    plan: Plan, store: Store, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    write_ended(store, plan.trials[0])
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_sync, [(plan.path, store.uri, uri)] * 2))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(plan.sweep)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in found} == {plan.trials[0].name, plan.sweep}
    assert len(found) == 2


@contextmanager
def table_away(uri: str, table: str) -> Iterator[None]:
    """Let MLflow's database fail in one place, until the block ends."""
    for names in ((table, "away"), ("away", table)):
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
            database.execute("ALTER TABLE {} RENAME TO {}".format(*names))
        if names[0] == table:
            yield


@pytest.mark.parametrize("table", ["metrics", "params"])
def test_what_could_not_be_sent_is_sent_when_mlflow_is_back(
    plan: Plan, trial: Trial, store: Store, uri: str, table: str, mirror: Mirror
) -> None:
    write_ended(store, trial)
    with table_away(uri, table), pytest.raises(TrackingUnavailable):
        mirror.sync(store, plan.trials)
    mirror.sync(store, plan.trials)
    run = runs(uri, plan.sweep)[trial.name]
    assert run.data.params["norm"] == trial.axes["norm"]
    expected = mirrored(read_trial(store, trial.id)[1])
    assert how_often(uri, run) == Counter((metric, step) for metric, step, _ in expected)
    assert run.info.status == "FINISHED"


def test_a_server_that_is_away_is_reported_quickly(plan: Plan) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(TrackingUnavailable, match="normsweep sync FILE"):
        Mirror(f"http://127.0.0.1:{port}", plan)
    assert time.monotonic() - began < 30


def write_all(plan: Plan, runs: Path, text: str) -> None:
    uri = f"sqlite:///{runs}/mlflow.db"
    # MLflow caches where a run's artifacts are; another process would not know the old place.
    _artifact_repos_cache.clear()
    sync_sweep(plan, str(runs), uri)
    Mirror(uri, plan).log_report({"index.html": text})


@pytest.mark.parametrize("keep", [shutil.move, shutil.copytree])
def test_a_moved_or_copied_store_keeps_its_artifacts_in_its_new_place(
    plan: Plan, store: Store, uri: str, tmp_path: Path, keep: Keep
) -> None:
    write_ended(store, plan.trials[0])
    write_all(plan, tmp_path / "runs", "one")
    new = tmp_path / "a #new%20place"
    keep(tmp_path / "runs", new)
    write_all(plan, new, "two")
    run = runs(parse(f"sqlite:///{new}/mlflow.db").uri, plan.sweep)[plan.sweep]
    (written,) = new.rglob("index.html")
    assert written.read_text() == "two"
    assert run.info.artifact_uri == written.parent.as_uri()
    old = list((tmp_path / "runs").rglob("index.html"))
    assert [path.read_text() for path in old] == (["one"] if keep is shutil.copytree else [])
    if old:
        kept = runs(uri, plan.sweep)[plan.sweep]
        assert kept.info.artifact_uri == old[0].parent.as_uri()


def test_a_store_reached_by_another_path_stays_where_it_is(
    plan: Plan, store: Store, uri: str, tmp_path: Path
) -> None:
    write_all(plan, tmp_path / "runs", "one")
    before = runs(uri, plan.sweep)[plan.sweep].info.artifact_uri
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    write_all(plan, tmp_path / "link", "two")
    assert runs(uri, plan.sweep)[plan.sweep].info.artifact_uri == before


def test_artifacts_that_somebody_keeps_elsewhere_stay_there(
    plan: Plan, uri: str, tmp_path: Path
) -> None:
    elsewhere = (tmp_path / "elsewhere").as_uri()
    MlflowClient(uri).create_experiment(plan.sweep, artifact_location=elsewhere)
    Mirror(uri, plan)
    found = MlflowClient(uri).get_experiment_by_name(plan.sweep)
    assert found is not None
    assert found.artifact_location == elsewhere


def test_a_deleted_experiment_is_restored_with_its_runs_and_a_note(
    plan: Plan, trial: Trial, store: Store, uri: str
) -> None:
    write_attempt(store, trial, 20)
    sync_sweep(plan, store.uri, uri)
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(plan.sweep)
    assert found is not None
    client.delete_experiment(found.experiment_id)
    health = look(uri)
    assert not health.is_well
    assert f"{plan.sweep} is deleted" in health.found
    assert "mlflow experiments restore" in health.advice
    write_ended(store, trial)
    (note,) = sync_sweep(plan, store.uri, uri)
    assert "restored" in note
    run = runs(uri, plan.sweep)[trial.name]
    assert run.info.status == "FINISHED"
    assert set(how_often(uri, run).values()) == {1}
    assert look(uri).is_well


def test_a_run_that_is_deleted_while_the_sweep_goes_on_is_restored(
    plan: Plan, trial: Trial, store: Store, uri: str, mirror: Mirror
) -> None:
    write_attempt(store, trial, 20)
    mirror.sync(store, plan.trials)
    run = runs(uri, plan.sweep)[trial.name]
    MlflowClient(uri).delete_run(run.info.run_id)
    assert f"1 of {plan.sweep}'s runs deleted" in look(uri).found
    write_ended(store, trial)
    with pytest.raises(TrackingUnavailable):
        mirror.sync(store, plan.trials)
    mirror.sync(store, plan.trials)
    name = run.info.run_name
    assert mirror.notes == [f"The run {name} was deleted in MLflow; it has been restored."]
    after = runs(uri, plan.sweep)
    assert after.keys() == {name, plan.sweep}
    assert after[name].info.run_id == run.info.run_id
    assert set(how_often(uri, after[trial.name]).values()) == {1}


def test_a_deleted_report_run_is_the_same_one_again(plan: Plan, uri: str) -> None:
    Mirror(uri, plan).log_report({"index.html": "one"})
    run = runs(uri, plan.sweep)[plan.sweep]
    MlflowClient(uri).delete_run(run.info.run_id)
    Mirror(uri, plan).log_report({"index.html": "two"})
    assert runs(uri, plan.sweep)[plan.sweep].info.run_id == run.info.run_id


def make_garbage(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)


def make_nothing_beside(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("a file")


@pytest.mark.parametrize("spoil", [make_garbage, make_nothing_beside, Path.mkdir])
def test_a_database_that_cannot_be_used_is_reported_at_once(
    plan: Plan, tmp_path: Path, spoil: Callable
) -> None:
    path = tmp_path / "other/mlflow.db"
    path.parent.mkdir()
    spoil(path)
    began = time.monotonic()
    with pytest.raises((TrackingUnavailable, UserError)) as told:
        Mirror(f"sqlite:///{path}", plan)
    assert time.monotonic() - began < 5
    assert "--tracking" in str(told.value) or "normsweep sync" in str(told.value)
    assert str(path) in str(told.value)


def test_a_report_makes_no_database(plan: Plan, store: Store, tmp_path: Path) -> None:
    write_ended(store, plan.trials[0])
    write_report(plan, store.uri, f"sqlite:///{tmp_path}/runs/mlflow.db", tmp_path / "out")
    assert not list(tmp_path.rglob("mlflow.db*"))
    assert not list(tmp_path.rglob("mlartifacts"))


@pytest.mark.parametrize(
    "uri", ["mysql+nope://host/db", "ftp://host", "runs/mlflow.db", "mysql+pymysql://host/db"]
)
def test_a_run_begins_nothing_with_an_address_that_cannot_serve(
    plan: Plan, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)  # as where it is not installed
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((UserError, EnvironmentProblem), match="--tracking"):
        run_sweep(plan, RunOptions(str(tmp_path / "runs"), uri))
    assert sorted(tmp_path.rglob("*")) == before
