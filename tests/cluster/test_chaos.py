"""Sweeps on a cluster survive whatever can happen to them: nodes cut off, memory limits, killed
pods, queues, preemption (`make chaos-cluster`).
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.lab import HERE, KUBE, NAMESPACE, POD_VARIABLES, ROOT, Lab, sh
from tests.cluster.sweeps import (
    assert_same_bits_as_here,
    disturbed,
    only_job,
    submission_of_no_image,
)

pytestmark = pytest.mark.chaos
KUEUE = "kueue.x-k8s.io/v1beta2"


def cut_a_worker_node_off(lab: Lab, job: str) -> None:
    (head,) = lab.pods(job, "head")
    node = next(name for name in ("node-1", "node-2") if name != head["spec"]["nodeName"])
    sh(KUBE / "cluster", "cut", node)
    try:
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        lab.wait(
            lambda: lab.kubectl("get", "node", node, "-o", ready) != "True", f"{node} is missed", 60
        )
        until = time.monotonic() + 60  # the node stays cut off for a minute
        lab.wait(lambda: time.monotonic() > until, "a minute", 90)
    finally:
        sh(KUBE / "cluster", "mend", node)


def kill_a_worker_outright(lab: Lab, job: str) -> None:
    name = lab.pods(job, "worker")[0]["metadata"]["name"]
    lab.kubectl("delete", "pod", name, "--grace-period=0", "--force")


def ask_a_worker_to_go(lab: Lab, job: str) -> None:
    lab.kubectl("delete", "pod", lab.pods(job, "worker")[0]["metadata"]["name"], "--wait=false")


def let_a_rank_grow_too_large(lab: Lab, job: str) -> None:
    """Make the file at the sight of which tests.cluster.hungry_norm takes all memory, once."""
    name = lab.pods(job, "worker")[0]["metadata"]["name"]
    lab.kubectl("exec", name, "--", "touch", "/tmp/be-hungry")
    lab.wait(
        lambda: (
            "gone"
            in lab.kubectl("exec", name, "--", "bash", "-c", "test -e /tmp/be-hungry || echo gone")
        ),
        "hunger",
    )


@pytest.mark.parametrize(
    "disturb",
    [cut_a_worker_node_off, kill_a_worker_outright, ask_a_worker_to_go, let_a_rank_grow_too_large],
)
def test_a_disturbed_sweep_ends_with_the_bits_of_an_undisturbed_one(
    lab: Lab, tmp_path: Path, disturb: Callable[[Lab, str], None]
) -> None:
    name = disturb.__name__.replace("_", "-")[:30].strip("-")
    norms = "layer_norm, i_ln"
    if disturb is let_a_rank_grow_too_large:
        norms = "'hungry_norm:HungryNorm'"
        shutil.copy(Path(__file__).parent / "hungry_norm.py", tmp_path)
    file = disturbed(tmp_path / f"{name}.yaml", norms=norms, steps=600)
    store = lab.store(name)
    with lab.start(*lab.submission(file, store, "--wait"), cwd=tmp_path) as submission:
        hungry = disturb is let_a_rank_grow_too_large  # its sweep has a single trial
        done = lab.wait_checkpoint(store, 2) if hungry else lab.wait_second_trial(store)
        disturb(lab, only_job(lab, name))
        output, _ = submission.communicate(timeout=900)
    assert submission.returncode == 0, output
    attempts = lab.attempts(store)
    assert max(attempts.values()) > 1, "nothing was disturbed"
    assert hungry or [attempts[trial] for trial in done] == [1], "what had ended was not run again"
    kinds = {
        json.loads(lab.read(store, key))["kind"]
        for key in lab.keys(store)
        if key.endswith("/failure.json")
    }
    if hungry:
        assert kinds == {"killed"}
    if disturb is ask_a_worker_to_go:
        assert kinds == {"preempted"}, "a node that drains gets its checkpoint"
    (job,) = lab.objects("rayjobs", f"normsweep.io/sweep={name}")
    assert job["status"].get("failed", 0) == 0, "one cluster was enough"
    assert_same_bits_as_here(lab, file, store, tmp_path, cwd=tmp_path)


def test_a_sweep_with_a_diverged_trial_makes_one_cluster_and_waiting_for_it_exits_4(
    lab: Lab, tmp_path: Path
) -> None:
    file = disturbed(tmp_path / "diverging.yaml", steps=40, workers=1, norms="none", lr="1.0e+3")
    store = lab.store("diverging")
    lab.normsweep(*lab.submission(file, store, "--wait"), expect=4)
    job = lab.objects("rayjobs", "normsweep.io/sweep=diverging")[0]
    assert job["status"]["jobDeploymentStatus"] == "Complete"
    assert job["status"].get("failed", 0) == 0
    assert set(lab.attempts(store).values()) == {1}
    lab.normsweep("status", job["metadata"]["name"], expect=4)
    assert "1 of them by diverging" in lab.normsweep(
        *lab.submission(file, store, "--wait"), expect=4
    )


QUOTA = {"cpu": "3", "memory": "12Gi"}  # enough for one gang of two
QUOTA_OF_GPUS = {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "1"}


def cluster_queue(name: str, quota: dict[str, str]) -> dict[str, Any]:
    resources = [{"name": name, "nominalQuota": size} for name, size in quota.items()]
    flavor = {"name": "default", "resources": resources}
    spec = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [{"coveredResources": [*quota], "flavors": [flavor]}],
    }
    return {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": spec}


def local_queue(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {
        "apiVersion": KUEUE,
        "kind": "LocalQueue",
        "metadata": metadata,
        "spec": {"clusterQueue": name},
    }


@contextmanager
def queue(lab: Lab, name: str, quota: dict[str, str]) -> Iterator[None]:
    """A queue with this quota, until the block ends."""
    lab.apply(json.dumps(cluster_queue(name, quota)))
    lab.apply(json.dumps(local_queue(name)))
    yield
    lab.kubectl("delete", f"localqueue/{name}", f"clusterqueue/{name}")


@pytest.fixture
def narrow_queue(lab: Lab) -> Iterator[str]:
    """A queue with room for one small sweep. Priorities are those in k8s/queues."""
    with queue(lab, "narrow", QUOTA):
        yield "narrow"


def cancel_all(lab: Lab, *sweeps: str) -> None:
    """Cancel sweeps, ended ones too. Within a minute, nothing must be left of each."""
    for sweep in sweeps:
        began = time.monotonic()
        lab.normsweep("cancel", sweep, "--remove")
        left = [
            pod["metadata"]["name"]
            for pod in lab.objects("pods")
            if pod["metadata"]["name"].startswith(sweep)
        ]
        assert left == []
        lab.wait(
            lambda name=sweep: not lab.objects("configmaps", f"normsweep.io/sweep={name}"),
            "its ConfigMap goes",
            30,
        )
        assert time.monotonic() - began < 60


def test_of_waiting_sweeps_each_says_its_position_and_the_higher_priority_starts_first(
    lab: Lab, tmp_path: Path, narrow_queue: str
) -> None:
    names = ("queue-a", "queue-b", "queue-c")
    files = {name: disturbed(tmp_path / f"{name}.yaml", steps=20_000) for name in names}
    flags = ("--queue", narrow_queue)
    lab.normsweep(
        *lab.submission(files["queue-a"], lab.store("queue"), *flags, "--priority", "urgent")
    )
    lab.wait(lambda: "running" in lab.normsweep("status", "queue-a"), "queue-a runs")
    lab.normsweep(*lab.submission(files["queue-b"], lab.store("queue"), *flags))
    lab.wait(
        lambda: "position 1 of 1" in lab.normsweep("status", "queue-b"), "queue-b says its position"
    )
    lab.normsweep(
        *lab.submission(files["queue-c"], lab.store("queue"), *flags, "--priority", "nightly")
    )
    lab.wait(
        lambda: "position 1 of 2" in lab.normsweep("status", "queue-c"), "queue-c is before it"
    )
    told = lab.normsweep("status", "queue-b")
    assert "queued" in told
    assert "position 2 of 2" in told
    assert re.search(r"needs [\d.]+ CPUs, [\d.]+ of [\d.]+ free", told), told
    listed = lab.normsweep("list")
    assert all(name in listed for name in names)

    cancel_all(lab, "queue-a")
    lab.wait(lambda: "queued" not in lab.normsweep("status", "queue-c"), "queue-c starts")
    assert "queued" in lab.normsweep("status", "queue-b")
    cancel_all(lab, "queue-b", "queue-c")


def test_a_preempted_sweep_continues_to_the_same_bits(
    lab: Lab, tmp_path: Path, narrow_queue: str
) -> None:
    file, store = disturbed(tmp_path / "patient.yaml", steps=600), lab.store("patient")
    other = disturbed(tmp_path / "pressing.yaml", steps=20)
    flags = ("--queue", narrow_queue)
    with lab.start(
        *lab.submission(file, store, *flags, "--priority", "nightly", "--wait")
    ) as patient:
        lab.wait_checkpoint(store, 2)
        lab.normsweep(
            *lab.submission(other, lab.store("pressing"), *flags, "--priority", "urgent", "--wait")
        )
        output, _ = patient.communicate(timeout=600)
    assert patient.returncode == 0, output
    assert "queued" in output, "it was told that it waits again"
    assert "reempted" in output
    assert max(lab.attempts(store).values()) > 1
    assert_same_bits_as_here(lab, file, store, tmp_path)


def test_gpus_are_planned_placed_and_waited_for(lab: Lab, tmp_path: Path) -> None:
    """Nodes claim to have GPUs. Trials ask for them, but train on the CPU."""
    capacity = json.dumps({"status": {"capacity": {"nvidia.com/gpu": "2"}}})
    for node in ("node-1", "node-2"):
        lab.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", capacity)
    file = disturbed(tmp_path / "gpus.yaml", steps=20)
    text = file.read_text().replace(
        "device: cpu, cpus_per_worker: 1", "device: auto, gpus_per_worker: 1"
    )
    file.write_text(text)
    store = lab.store("gpus")
    with lab.start(*lab.submission(file, store, "--wait")) as submission:
        lab.wait_checkpoint(store)
        workers = lab.pods(only_job(lab, "gpus"), "worker")
        output, _ = submission.communicate(timeout=300)
    assert submission.returncode == 0, output
    assert "2 x gpu1-cpu1: 1 CPU, 1 GPU" in output
    assert [
        pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for pod in workers
    ] == ["1", "1"]

    file.write_text(
        text.replace("workers: 2, placement: spread", "workers: 4, placement: strict_pack")
    )
    output = lab.normsweep(*lab.submission(file, lab.store("gpus-too-many")))
    assert "1 x gpu1-cpu1: 4 CPU, 4 GPU" in output
    assert "no node takes it" in lab.wait(
        lambda: said(lab, "gpus", "Insufficient nvidia.com/gpu"), "status says why"
    )
    cancel_all(lab, "gpus")


def test_a_quota_of_gpus_lets_a_sweep_wait_and_says_what_is_lacking(
    lab: Lab, tmp_path: Path
) -> None:
    file = disturbed(tmp_path / "gpu-quota.yaml")
    file.write_text(
        file.read_text().replace(
            "device: cpu, cpus_per_worker: 1", "device: auto, gpus_per_worker: 1"
        )
    )
    with queue(lab, "few-gpus", QUOTA_OF_GPUS):
        lab.normsweep(*lab.submission(file, lab.store("gpu-quota"), "--queue", "few-gpus"))
        lacking = "needs 2 GPUs, 1 of 1 free"
        told = lab.wait(lambda: said(lab, "gpu-quota", lacking), "status says why")
        assert "position 1 of 1" in told
        cancel_all(lab, "gpu-quota")


def said(lab: Lab, job: str, words: str) -> str:
    """What `status` says, if it contains these words, else ""."""
    told = lab.normsweep("status", job)
    return told if words in told else ""


def test_pods_are_added_while_trials_wait_for_them(lab: Lab, tmp_path: Path) -> None:
    file = disturbed(
        tmp_path / "growing.yaml", norms="i_ln, layer_norm, rms_norm, none", steps=300, workers=1
    )
    store = lab.store("growing")
    with lab.start(*lab.submission(file, store, "--autoscale", "2", "--wait")) as submission:
        lab.wait_checkpoint(store)
        lab.wait(lambda: len(lab.pods(only_job(lab, "growing"), "worker")) == 2, "a second pod")
        output, _ = submission.communicate(timeout=600)
    assert submission.returncode == 0, output
    assert "1 to 2 x cpu1" in output
    assert len(lab.attempts(store)) == 4


def template(folder: Path, **spec: object) -> Path:
    """k8s/rayjob.yaml with some fields replaced."""
    job = yaml.safe_load((ROOT / "k8s/rayjob.yaml").read_text())
    job["spec"] |= spec
    file = folder / "rayjob.yaml"
    file.write_text(yaml.safe_dump(job))
    return file


def test_a_deadline_that_passed_is_reported(lab: Lab, tmp_path: Path) -> None:
    file = disturbed(tmp_path / "late.yaml")
    own = template(tmp_path, activeDeadlineSeconds=5)
    output = lab.normsweep(
        *lab.submission(file, lab.store("late"), "--template", own, "--wait"), expect=3
    )
    assert "DeadlineExceeded: the job's deadline passed" in output
    assert "ended without an outcome" in output
    cancel_all(lab, "late")


def test_an_address_of_s3_that_pods_cannot_reach_is_reported(lab: Lab, tmp_path: Path) -> None:
    values = {name: lab.variables[name] for name in POD_VARIABLES}
    lab.apply_secret(
        "astray", values | {"AWS_ENDPOINT_URL": f"http://{HERE}:9", "AWS_MAX_ATTEMPTS": "2"}
    )
    file = disturbed(tmp_path / "astray.yaml")
    flags = ("--template", template(tmp_path, backoffLimit=0), "--secret", "astray", "--wait")
    output = lab.normsweep(*lab.submission(file, lab.store("astray"), *flags), expect=3)
    assert "AppFailed: the sweep could not run" in output
    assert "Is AWS_ENDPOINT_URL right" in output
    cancel_all(lab, "astray")


def test_a_quota_that_is_used_up_is_reported(lab: Lab, tmp_path: Path) -> None:
    file = disturbed(tmp_path / "greedy.yaml")
    file.write_text(file.read_text().replace("cpus_per_worker: 1", "cpus_per_worker: 600"))
    lab.normsweep(*lab.submission(file, lab.store("greedy")))
    assert "exceeded quota" in lab.wait(
        lambda: said(lab, "greedy", "exceeded quota"), "status says why"
    )
    cancel_all(lab, "greedy")


def test_an_image_that_no_node_has_is_reported(lab: Lab, tmp_path: Path) -> None:
    file = disturbed(tmp_path / "imageless.yaml")
    lab.normsweep(*submission_of_no_image(lab, file))
    told = lab.wait(lambda: said(lab, "imageless", "the image cannot be pulled"), "status says why")
    assert "localhost/none:1" in told
    with_log = lab.normsweep("logs", "imageless", expect=3)
    assert "there is no log" in with_log
    file.write_text(file.read_text().replace("i_ln", "rms_norm"))
    refused = lab.normsweep(*lab.submission(file, lab.store("imageless")), expect=2)
    assert "Another version of the sweep imageless is" in refused
    assert "normsweep cancel imageless-" in refused
    cancel_all(lab, "imageless")


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--queue", "nowhere"), 2, "there is no LocalQueue of this name"),
        (("--namespace", "elsewhere"), 3, "You may not list rayjobs in namespace elsewhere"),
        (("--context", "elsewhere"), 2, "Known contexts: test"),
        (("--tracking", "http://localhost:5000"), 2, "for a pod that is the pod itself"),
        (("--tracking", "http://me:word@mlflow:5000"), 2, "MLFLOW_TRACKING_PASSWORD"),
        (("--template", "pyproject.toml"), 2, "k8s/rayjob.yaml"),
        (("--priority", "urgent"), 2, "needs --queue"),
    ],
)
def test_what_cannot_be_submitted_is_refused_before_anything_is_made(
    lab: Lab, tmp_path: Path, flags: tuple[str, str], code: int, words: str
) -> None:
    file = disturbed(tmp_path / "refused.yaml")
    output = lab.normsweep(*lab.submission(file, lab.store("refused"), *flags), expect=code)
    assert words in output
    assert "Traceback" not in output
    assert lab.objects("rayjobs", "normsweep.io/sweep=refused") == []


def test_a_dry_run_makes_nothing(lab: Lab, tmp_path: Path) -> None:
    file = disturbed(tmp_path / "dry.yaml")
    output = lab.normsweep(*lab.submission(file, lab.store("dry"), "--dry-run"))
    assert "2 x cpu1: 1 CPU" in output
    assert "Nothing was made" in output
    assert lab.objects("rayjobs", "normsweep.io/sweep=dry") == []
    assert lab.objects("configmaps", "normsweep.io/sweep=dry") == []


def test_a_person_without_rights_is_told_which_one_is_missing(lab: Lab, tmp_path: Path) -> None:
    token = lab.kubectl("create", "token", "normsweep-trial").strip()
    config = json.loads(lab.kubectl("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    file = disturbed(tmp_path / "rightless.yaml")
    words = lab.submission(file, lab.store("rightless"))
    output = lab.normsweep(*words, expect=3, KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert f"You may not list rayjobs in namespace {NAMESPACE}" in output
    assert "normsweep-submitter" in output
