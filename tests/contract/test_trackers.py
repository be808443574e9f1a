"""Every tracker keeps the promises of orchestrator.tracking.base, and the mirror works with it."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from mlflow.utils.validation import _validate_metric_name

from orchestrator.errors import UserError
from orchestrator.plan import Plan, load_plan
from orchestrator.store import open_store
from orchestrator.store.trials import read_trial
from orchestrator.tracking import TRACKERS, is_there, open_tracker, shown
from orchestrator.tracking.base import DataSet, Tracker, TrackingUnavailable, Value
from orchestrator.tracking.memory import MemoryTracker
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.mlflow import MlflowTracker
from orchestrator.tracking.nights import NightValues, log_nights, metric_name
from tests.counted_store import CountedStore
from tests.sweeps import write_sweep
from tests.written_store import mirrored, write_attempt, write_ended
from trainers.system import Machine

Kept = set[tuple[str, int, int, float]]


def kept(tracker: Tracker, run_id: str) -> Kept:
    """The values that a tracker has of a run, read by its own means."""
    if isinstance(tracker, MemoryTracker):
        return {(*key, value) for key, value in tracker.experiment.values[run_id].items()}
    assert isinstance(tracker, MlflowTracker)
    client = MlflowClient(tracker._address.uri)
    metrics = client.get_run(run_id).data.metrics
    history = [point for name in metrics for point in client.get_metric_history(run_id, name)]
    assert len(history) == len({(m.key, m.step, m.timestamp) for m in history}), "nothing twice"
    return {(m.key, m.step, m.timestamp, m.value) for m in history}


def kept_files(tracker: Tracker, run_id: str, folder: Path) -> dict[str, bytes]:
    """A run's artifacts by path, read by the tracker's own means."""
    if isinstance(tracker, MemoryTracker):
        return dict(tracker.experiment.files[run_id])
    assert isinstance(tracker, MlflowTracker)
    folder.mkdir()
    client = MlflowClient(tracker._address.uri)
    found = Path(client.download_artifacts(run_id, "", str(folder)))
    files = (path for path in found.rglob("*") if path.is_file())
    return {path.relative_to(found).as_posix(): path.read_bytes() for path in files}


def kept_arrays(tracker: Tracker, run_id: str, folder: Path) -> dict[str, bytes]:
    found = kept_files(tracker, run_id, folder)
    return {path: content for path, content in found.items() if path.startswith("probes/")}


def report_of(tracker: Tracker, tmp_path: Path) -> dict[str, str]:
    if isinstance(tracker, MemoryTracker):
        return tracker.experiment.report
    assert isinstance(tracker, MlflowTracker)
    client = MlflowClient(tracker._address.uri)
    (run,) = client.search_runs([tracker._experiment], "tags.`normsweep.report` != ''")
    (tmp_path / "report").mkdir()
    folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path / "report")))
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_sweep(tmp_path, norms="layer_norm, i_ln", steps=40))


@pytest.fixture(params=[*TRACKERS, "sqlite"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        f"sqlite:///{tmp_path}/mlflow.db"
        if request.param == "sqlite"
        else f"{request.param}:{uuid.uuid4().hex}"
    )


@pytest.fixture
def opened(plan: Plan, uri: str) -> Callable[[], Tracker]:
    """Opens the tracker as another process would find it."""

    def again() -> Tracker:
        tracker = open_tracker(uri, plan)
        tracker.open()
        return tracker

    return again


def test_a_run_is_made_once_and_found_by_whoever_comes_next(
    plan: Plan, uri: str, opened: Callable[[], Tracker]
) -> None:
    one, other = opened(), opened()
    tags = {"normsweep.trial": "abc", "normsweep.host": "here"}
    made = one.find_or_create("abc", "a trial", 1_764_000_000_000, tags)
    assert other.find_or_create("abc", "a trial", 1_764_000_000_001, tags).id == made.id
    (found,) = open_tracker(uri, plan).open().items()
    assert found[0] == "abc"
    assert (found[1].id, found[1].status) == (made.id, "RUNNING")
    assert found[1].tags.items() >= tags.items()


def test_what_is_sent_twice_is_there_once_and_values_that_are_not_finite_are_kept(
    opened: Callable[[], Tracker],
) -> None:
    run = opened().find_or_create("abc", "a trial", 1_764_000_000_000, {})
    values = [
        Value("train/loss", step, 0.5 / step, 1_764_000_000_000 + step) for step in range(1, 1_205)
    ]
    opened().log(run.id, values)
    opened().log(run.id, values[-3:])
    tracker = opened()
    assert kept(tracker, run.id) == {(v.metric, v.step, v.time_ms, v.value) for v in values}
    tracker.log(run.id, [Value("feature/entropy", 1, math.inf, 1_764_000_000_001)])
    (at_last,) = (
        value for metric, *_, value in kept(tracker, run.id) if metric == "feature/entropy"
    )
    assert at_last > 1e300


def test_tags_and_status_are_there_for_the_next_process(
    plan: Plan, uri: str, opened: Callable[[], Tracker]
) -> None:
    tracker = opened()
    run = tracker.find_or_create("abc", "a trial", 1_764_000_000_000, {"normsweep.host": "here"})
    tracker.set_tags(run.id, {"normsweep.cursor": "1/3"})
    tracker.set_tags(run.id, {"normsweep.cursor": "1/7"})
    for status in ("KILLED", "RUNNING", "FINISHED"):
        tracker.set_status(run.id, status, None if status == "RUNNING" else 1_764_000_009_000)
        found = open_tracker(uri, plan).open()["abc"]
        assert found.status == status
    assert found.tags["normsweep.cursor"] == "1/7"
    assert found.tags["normsweep.host"] == "here"


def described(tracker: Tracker, run_id: str) -> tuple[dict[str, str], set[tuple[str, str, str]]]:
    """A run's params, and its data sets with the beginning of their checksums and what for."""
    if isinstance(tracker, MemoryTracker):
        held = tracker.experiment
        data = {(one.name, one.sha256[:36], one.context) for one in held.data[run_id]}
        return dict(held.params[run_id]), data
    assert isinstance(tracker, MlflowTracker)
    run = MlflowClient(tracker._address.uri).get_run(run_id)
    used = run.inputs.dataset_inputs
    assert all(len(one.tags) == 1 for one in used)
    data = {(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in used}
    assert len(used) == len(data), "none twice"
    return run.data.params, data


def test_what_describes_a_run_is_kept_once_however_long_and_what_is_there_stays(
    opened: Callable[[], Tracker],
) -> None:
    """As where MLflow was killed in between, and the file has changed since."""
    run = opened().find_or_create("abc", "a trial", 1_764_000_000_000, {})
    sets = [DataSet("DF2K", "ab" * 32, "training"), DataSet("Set5", "cd" * 32, "evaluation")]
    opened().describe(run.id, {"norm": "i_ln", "observe.log_every": "10"}, sets[:1])
    many = {f"norm.knob_{number}": str(number) for number in range(230)}
    opened().describe(run.id, {"norm": "i_ln", "observe.log_every": "20", **many}, sets)
    params, data = described(opened(), run.id)
    assert params == {"norm": "i_ln", "observe.log_every": "10", **many}
    assert data == {("DF2K", ("ab" * 18), "training"), ("Set5", ("cd" * 18), "evaluation")}


def test_the_newest_report_replaces_the_others(
    opened: Callable[[], Tracker], tmp_path: Path
) -> None:
    opened().log_report({"report.md": "one", "table.csv": "a"})
    tracker = opened()
    tracker.log_report({"report.md": "two"})
    assert report_of(tracker, tmp_path)["report.md"] == "two"
    assert "abc" not in tracker.open(), "the report's run is no trial's"


def test_the_mirror_sends_every_point_and_then_asks_for_nothing_more(
    plan: Plan, uri: str, tmp_path: Path
) -> None:
    store = CountedStore(open_store(str(tmp_path / "runs")))
    first, second = plan.trials
    write_attempt(store, first, 20)
    write_ended(store, first)
    write_attempt(store, second, 20)
    mirror = Mirror(uri, plan)
    mirror.sync(store, plan.trials)
    tracker = open_tracker(uri, plan)
    found = tracker.open()
    assert {trial: run.status for trial, run in found.items()} == {
        first.id: "FINISHED",
        second.id: "RUNNING",
    }
    for trial in plan.trials:
        sent = {(metric, step) for metric, step, *_ in kept(tracker, found[trial.id].id)}
        expected = mirrored(read_trial(store, trial.id)[1])
        assert sent == {(metric, step) for metric, step, _ in expected}
    store.requests()
    mirror.sync(store, [first])
    assert store.requests() == {}


def test_a_file_is_kept_at_its_path_and_the_newest_replaces_the_others(
    opened: Callable[[], Tracker], tmp_path: Path
) -> None:
    run = opened().find_or_create("abc", "a trial", 1_764_000_000_000, {})
    opened().log_file(run.id, "probes/own.Mine/step-00000010.safetensors", b"one")
    opened().log_file(run.id, "probes/own.Mine/step-00000010.safetensors", b"two\0")
    opened().log_file(run.id, "top.bin", b"")
    assert kept_files(opened(), run.id, tmp_path / "found") == {
        "probes/own.Mine/step-00000010.safetensors": b"two\0",
        "top.bin": b"",
    }


def test_the_mirror_sends_every_array_once_whenever_it_comes(
    plan: Plan, uri: str, tmp_path: Path
) -> None:
    store, trial = CountedStore(open_store(str(tmp_path / "runs"))), plan.trials[0]
    expected: dict[str, bytes] = {}

    def put(probe: str, step: int, attempt: int) -> None:
        content = f"{probe} {step}".encode()
        key = f"trials/{trial.id}/probes/{probe}/step-{step:08d}-{attempt}.safetensors"
        store.put_once(key, content)
        expected[f"probes/{probe}/step-{step:08d}.safetensors"] = content

    def read() -> int:
        return sum(n for (how, key), n in store.asked.items() if how == "get" and "/probes/" in key)

    write_attempt(store, trial, 20)
    put("channels", 0, 1)
    put("channels", 10, 1)
    mirror = Mirror(uri, plan)
    mirror.sync(store, plan.trials)
    put("blocks", 10, 1)  # of a step of which channels have been sent already
    put("channels", 20, 2)  # an attempt that continues
    put("own.Mine", 5, 2)
    mirror.sync(store, plan.trials)
    mirror.sync(store, plan.trials)
    assert read() == len(expected) == 5
    write_ended(store, trial)
    put("channels", 30, 2)
    Mirror(uri, plan).sync(store, plan.trials)  # another process
    assert read() == len(expected) == 6
    tracker = open_tracker(uri, plan)
    run = tracker.open()[trial.id]
    assert kept_arrays(tracker, run.id, tmp_path / "found") == expected
    assert run.status == "FINISHED"


def test_arrays_of_a_trial_that_was_sent_to_its_end_without_them_are_sent_after_all(
    plan: Plan, uri: str, tmp_path: Path
) -> None:
    """As by a version that did not mirror arrays."""
    store, trial = open_store(str(tmp_path / "runs")), plan.trials[0]
    write_ended(store, trial)
    Mirror(uri, plan).sync(store, plan.trials)
    store.put_once(f"trials/{trial.id}/probes/channels/step-00000000-1.safetensors", b"late")
    Mirror(uri, plan).sync(store, plan.trials)
    tracker = open_tracker(uri, plan)
    found = kept_arrays(tracker, tracker.open()[trial.id].id, tmp_path / "found")
    assert found == {"probes/channels/step-00000000.safetensors": b"late"}


def test_metrics_arrive_where_artifacts_are_refused(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trial = open_store(str(tmp_path / "runs")), plan.trials[0]
    write_ended(store, trial)
    uri = f"memory:{uuid.uuid4().hex}"

    def refused(tracker: Tracker, run_id: str, path: str, content: bytes) -> None:
        raise TrackingUnavailable("no such bucket")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryTracker, "log_file", refused)
        mirror = Mirror(uri, plan)
        mirror.sync(store, plan.trials)
    assert mirror.notes == ["Metrics are sent without artifacts. no such bucket"]
    tracker = open_tracker(uri, plan)
    assert tracker.open()[trial.id].status == "FINISHED"
    assert kept(tracker, trial.id)
    Mirror(uri, plan).sync(store, plan.trials)
    assert "spec.json" in kept_files(tracker, trial.id, tmp_path / "found")


def test_a_bad_address_is_refused_and_a_trackers_is_shown(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        open_tracker("ftp://nowhere", plan)
    assert shown("memory:mine") == "memory:mine"
    assert shown("http://me:word@host:5000") == "http://host:5000"
    assert is_there("memory:mine")
    assert not is_there(f"sqlite:///{tmp_path}/none.db")


def night(number: int, date: str, **values: float) -> NightValues:
    return NightValues(number, date, values, {"normsweep.verdict": "pass"})


def test_a_night_is_sent_once_with_its_trend_and_its_page(
    plan: Plan, uri: str, opened: Callable[[], Tracker], tmp_path: Path
) -> None:
    first = night(1, "2026-11-28", **{"psnr/i_ln/sr_x2": 0.02, "growth/none": 3.0})
    second = night(3, "2026-11-30", **{"psnr/i_ln/sr_x2": 0.01})
    asked: list[str] = []

    def files(date: str) -> dict[str, bytes]:
        asked.append(date)
        return {"index.html": date.encode()}

    opened()
    for nights in ([first], [first, second], [first, second]):
        log_nights(uri, plan, nights, files)
    assert asked == ["2026-11-28", "2026-11-30"], "a night that was sent is not sent again"
    tracker = open_tracker(uri, plan, "night")
    runs = tracker.open()
    assert {date: run.status for date, run in runs.items()} == {
        "2026-11-28": "FINISHED",
        "2026-11-30": "FINISHED",
    }
    run = runs["2026-11-30"]
    trend = {(metric, step, value) for metric, step, _, value in kept(tracker, run.id)}
    assert trend == {("psnr/i_ln/sr_x2", 1, 0.02), ("psnr/i_ln/sr_x2", 3, 0.01)}
    assert run.tags["normsweep.verdict"] == "pass"
    assert kept_files(tracker, run.id, tmp_path / "found") == {"index.html": b"2026-11-30"}
    assert not open_tracker(uri, plan).open(), "a night is no trial of the sweep"


def test_a_night_that_was_sent_in_part_is_sent_again_and_is_there_once(
    plan: Plan, uri: str
) -> None:
    one = night(1, "2026-11-28", psnr=0.02)
    begun = open_tracker(uri, plan, "night")
    begun.open()
    run = begun.find_or_create(one.date, one.date, one.time_ms, one.tags)
    begun.log(run.id, [Value("psnr", 1, 0.02, one.time_ms)])
    log_nights(uri, plan, [one], lambda _: {})
    tracker = open_tracker(uri, plan, "night")
    (found,) = tracker.open().values()
    assert (found.id, found.status) == (run.id, "FINISHED")
    assert kept(tracker, run.id) == {("psnr", 1, one.time_ms, 0.02)}


@pytest.mark.parametrize(
    "name",
    [
        "psnr/i_ln[rescale=False]/sr_x2/embedded-test, w8 d2",
        "at_most val/Set5/psnr/own:Norm",
        "gröwth/" + "x" * 400,
        "a//b/../c",
    ],
)
def test_the_name_of_a_metric_is_one_that_mlflow_takes(name: str) -> None:
    _validate_metric_name(metric_name(name))
    assert metric_name(name) != metric_name(name + "'"), "two names stay two"
    assert metric_name("psnr/i_ln/sr_x2") == "psnr/i_ln/sr_x2"


def test_what_the_machine_does_has_mlflows_names() -> None:
    theirs: set[str] = set()
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor()):
        monitor.collect_metrics()
        theirs |= monitor.metrics.keys()
    found = Machine(torch.device("cpu"), every_s=0).due()
    assert {name.removeprefix("system/") for name in found} <= theirs
    assert len(found) == 6
