"""Where a job's pods run, who submitted it, what Kubernetes says of it, and what it has spent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster import kube as clusters
from orchestrator.cluster.follow import list_jobs
from orchestrator.cluster.options import JobOptions
from orchestrator.cluster.rayjob import Job, build_job
from orchestrator.errors import UserError
from orchestrator.plan import Plan, load_plan
from orchestrator.store import attempts
from orchestrator.store.base import Store
from orchestrator.store.trials import looks_at
from orchestrator.trials.spent import spent
from tests.fake_kube import FakeKube, Right
from tests.in_process import Command
from tests.manifests import validate
from tests.sweeps import write_sweep
from tests.written_store import write_attempt, write_ended

RIGHTS: set[Right] = {
    *(("list", what) for what in ("rayjobs", "pods", "events")),
    *(("create", what) for what in ("rayjobs", "configmaps")),
}
NODES = ("nvidia.com/gpu.product=H200", "zone=a")
TAINTS = ("nvidia.com/gpu:NoSchedule", "team=ir", "spot")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_sweep(tmp_path, norms="layer_norm, i_ln", steps=40))


def job(plan: Plan, store: str = "s3://lab/runs", **flags: Any) -> Job:
    given = {"store": store, "tracking": "http://mlflow:5000", "image": "lab/normsweep:1"}
    return build_job(plan, JobOptions(**given, **flags))


def submitted(plan: Plan, store: Store, **flags: Any) -> tuple[FakeKube, str]:
    """A cluster that has this job, which runs."""
    kube = FakeKube(RIGHTS, store)
    made = job(plan, store.uri, **flags)
    kube.create("rayjobs", made.rayjob)
    kube.end_after(made.name, looks=1)
    return kube, made.name


def pods(made: Job) -> tuple[dict, dict, list[dict]]:
    """The specifications of the submitter's, the head's and the workers' pods."""
    cluster = made.rayjob["spec"]["rayClusterSpec"]
    return (
        made.rayjob["spec"]["submitterPodTemplate"]["spec"],
        cluster["headGroupSpec"]["template"]["spec"],
        [group["template"]["spec"] for group in cluster["workerGroupSpecs"]],
    )


def test_workers_alone_are_bound_to_nodes(plan: Plan) -> None:
    submitter, head, workers = pods(job(plan, node_selector=NODES, tolerations=TAINTS))
    for worker in workers:
        assert worker["nodeSelector"] == {"nvidia.com/gpu.product": "H200", "zone": "a"}
        assert worker["tolerations"] == [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "team", "operator": "Equal", "value": "ir"},
            {"key": "spot", "operator": "Exists"},
        ]
    for pod in (submitter, head):
        assert not {"nodeSelector", "tolerations"} & pod.keys()


def test_an_api_server_takes_the_job_with_all_flags(plan: Plan) -> None:
    flags = {"node_selector": NODES, "tolerations": TAINTS, "pull_secrets": ("lab",)}
    validate(job(plan, owner="ann", **flags).rayjob)


def test_every_pod_pulls_with_the_secrets_given(plan: Plan) -> None:
    submitter, head, workers = pods(job(plan, pull_secrets=("lab", "lab", "hub")))
    for pod in (submitter, head, *workers):
        assert pod["imagePullSecrets"] == [{"name": "lab"}, {"name": "hub"}]


def test_without_flags_the_pods_are_those_of_the_template(plan: Plan) -> None:
    submitter, head, workers = pods(job(plan))
    for pod in (submitter, head, *workers):
        assert not {"nodeSelector", "tolerations", "imagePullSecrets"} & pod.keys()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"node_selector": ("zone",)}, "--node-selector zone: give KEY=VALUE"),
        ({"node_selector": ("=a",)}, "give KEY=VALUE"),
        ({"node_selector": ("zone=a b",)}, "give KEY=VALUE"),
        ({"node_selector": ("zone=a", "zone=b")}, "zone is a already"),
        ({"tolerations": ("gpu:Never",)}, "NoSchedule, PreferNoSchedule, NoExecute"),
        ({"tolerations": ("gpu:",)}, "give KEY"),
        ({"tolerations": ("",)}, "give KEY"),
        ({"pull_secrets": ("Lab_1",)}, "--pull-secret Lab_1: not the name of a Secret"),
    ],
)
def test_what_cannot_be_a_label_a_taint_or_a_secret_is_refused(
    plan: Plan, flags: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        job(plan, **flags)


def test_a_list_has_age_owner_and_priority(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    kube, name = submitted(plan, store, owner="ann", queue="sweeps", priority="high")
    made = datetime.now(UTC) - timedelta(hours=3, minutes=30)
    kube.rayjobs[name]["metadata"]["creationTimestamp"] = made.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert list_jobs(kube) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line == f"{name}: running, 3.5 h old, by ann, priority high"


def test_events_of_a_job_and_its_pods_are_printed_by_time(
    plan: Plan, store: Store, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube, name = submitted(plan, store)
    said = {
        name: [{"lastTimestamp": "2026-11-29T02:00:09Z", "type": "Normal", "message": "second"}],
        "head": [
            {"eventTime": "2026-11-29T02:00:01.5Z", "type": "Warning", "reason": "Failed",
             "message": "first\nof  all", "lastTimestamp": None, "count": 3}
        ],
    }  # fmt: skip
    monkeypatch.setattr(kube, "events", lambda about: said.get(about, []))
    monkeypatch.setattr(clusters, "Kube", lambda *_: kube)
    code, out, _ = command("events", name)
    lines = out.splitlines()
    assert code == 0
    assert "Warning  pod head" in lines[1]
    assert lines[1].endswith("Failed  first of all (x3)")
    assert lines[2].endswith("second")
    said.clear()
    code, out, _ = command("events", name)
    assert (code, out.startswith(f"No events about {name}")) == (0, True)


def test_the_log_of_one_trial_of_a_job_comes_from_the_jobs_store(
    plan: Plan, store: Store, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube, name = submitted(plan, store)
    monkeypatch.setattr(clusters, "Kube", lambda *_: kube)
    trial = plan.trials[1]
    write_attempt(store, trial, 20)
    for given in (trial.id[:8], trial.id):
        code, out, _ = command("logs", name, "--trial", given)
        assert (code, f"({trial.id})" in out, "step 20  loss" in out) == (0, True, True)
    code, _, said = command("logs", name, "--trial", "nix")
    assert (code, "There is no trial 'nix'" in said) == (2, True)


def test_what_was_spent_counts_every_attempt_and_gpus_before_cores(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(attempts.time, "time", lambda: clock[0])
    for trial, gpus in zip(plan.trials, (2, 0), strict=True):
        placement = {"workers": 3, "gpus_per_worker": gpus, "cpus_per_worker": 4}
        for hours in (1, 2):
            number = attempts.new_attempt(store, trial, {"placement": placement})
            clock[0] += hours * 3_600
            attempts.write_failure(store, trial.id, number, "killed", "", final=False)
    looks = looks_at(store, [trial.id for trial in plan.trials])
    assert str(spent(store, looks.values())) == (
        "18.0 GPU-hours and 36.0 CPU core-hours without a GPU spent so far"
    )
    attempts.new_attempt(store, plan.trials[0], {})  # it has left no sign of life yet
    looks = looks_at(store, [trial.id for trial in plan.trials])
    assert "attempts of unknown time: 1" in str(spent(store, looks.values()))
    assert str(spent(store, [])) == "0.0 GPU-hours spent so far"


def test_a_trial_that_ended_has_spent_the_time_to_its_end(plan: Plan, store: Store) -> None:
    write_ended(store, plan.trials[0])
    looks = looks_at(store, [plan.trials[0].id])
    assert spent(store, looks.values()).unknown == 0
