"""A sweep on a real Kubernetes, from submission to report, and who may do what there."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from mlflow import MlflowClient

from tests import readme
from tests.cluster.lab import (
    BUCKET,
    NAMESPACE,
    PG_PASSWORD,
    ROOT,
    S3_KEY,
    S3_SECRET,
    SUBMITTER,
    Lab,
)
from tests.cluster.sweeps import assert_same_bits_as_here, disturbed, only_job
from tests.s3 import free_port

KINDS = (
    "rayjobs,rayclusters,pods,configmaps,jobs,deployments,statefulsets,services,events,workloads"
)
SMOKE = ROOT / "sweeps/cluster-smoke.yaml"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}"
VERBS = "get list watch create update patch delete deletecollection"
OTHER_RESOURCES = (
    "secrets configmaps pods pods/exec pods/portforward services rayjobs.ray.io "
    "roles.rbac.authorization.k8s.io serviceaccounts deployments.apps jobs.batch "
    "persistentvolumeclaims nodes namespaces"
)


@dataclass(frozen=True)
class Smoke:
    """sweeps/cluster-smoke.yaml, run to its end: its store, and what could be seen while it ran."""

    store: str
    pods: list[dict[str, Any]]
    seen: list[str]
    pages: dict[str, str]


def submission(lab: Lab, store: str) -> tuple[str, str]:
    """The README's lines that set variables, and those that submit sweeps/cluster-smoke.yaml."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")
    fill = {
        " ".join(f"{key}=..." for key in keys): " ".join(
            f"{key}={lab.variables[key]}" for key in keys
        ),
        "s3://normsweep/runs": store,
        "registry.example.org/normsweep:0.1.0": lab.image,
    }
    lines = readme.block("submit", "sh", fill=fill).splitlines(keepends=True)
    exports = [line for line in lines if line.startswith("export ")]
    return "".join(exports), "".join(line for line in lines if line not in exports)


@pytest.fixture(scope="module")
def smoke(lab: Lab) -> Smoke:
    store = lab.store("smoke")
    script = "".join(submission(lab, store))
    with lab.script(script, KUBECONFIG=str(SUBMITTER)) as submitted:
        lab.wait_checkpoint(store)
        pods = lab.objects("pods")
        seen = [lab.kubectl("get", KINDS, "-o", "yaml"), lab.normsweep("logs", "cluster-smoke")]
        seen += [
            lab.kubectl("logs", pod["metadata"]["name"], "--all-containers")
            for pod in pods
            if is_up(pod)
        ]
        seen.append(
            subprocess.run(
                ["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True
            ).stdout
        )
        pages = opened_pages(lab)
        output, _ = submitted.communicate(timeout=600)
    assert submitted.returncode == 0, output
    assert "cluster-smoke: 6 done" in output
    job = only_job(lab, "cluster-smoke")
    return Smoke(
        store, [pod for pod in pods if pod["metadata"]["name"].startswith(f"{job}-")], seen, pages
    )


def opened_pages(lab: Lab) -> dict[str, str]:
    """What the pages of `normsweep ui JOB` hold while the sweep runs, by their names."""
    ports = "--no-open", "--port", str(free_port())
    with lab.start("ui", "cluster-smoke", *ports) as forwarding:
        assert forwarding.stdout is not None
        addresses, said = {}, ""
        for line in forwarding.stdout:
            said += line
            name, separator, address = line.strip().partition(": http://")
            if separator:
                addresses[name] = f"http://{address}"
            if line.startswith("Ctrl-C"):
                break
        try:
            answers = {
                name: requests.get(address, timeout=120) for name, address in addresses.items()
            }
        finally:
            forwarding.send_signal(signal.SIGINT)
            said += forwarding.communicate(timeout=60)[0]
    assert forwarding.returncode == 0, said
    assert [answer.status_code for answer in answers.values()] == [200, 200], said
    return {name: answer.text for name, answer in answers.items()}


def is_up(pod: dict[str, Any]) -> bool:
    return pod["status"]["phase"] != "Pending"


def status(lab: Lab, file: Path, store: str) -> dict[str, int]:
    counts: dict[str, int] = json.loads(
        lab.normsweep("status", file, "--store", store, "--data", lab.data, "--json")
    )
    return counts


def test_every_pod_of_a_sweep_is_admitted_under_the_restricted_standard(
    lab: Lab, smoke: Smoke
) -> None:
    namespace = json.loads(lab.kubectl("get", "namespace", NAMESPACE, "-o", "json"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    kinds = [pod["metadata"]["labels"].get("ray.io/node-type", "submitter") for pod in smoke.pods]
    assert sorted(kinds) == ["head", "submitter", "worker", "worker"]


def test_a_submitted_sweep_ends_with_every_trial_done_and_its_gang_spans_both_nodes(
    lab: Lab, smoke: Smoke
) -> None:
    counts = status(lab, SMOKE, smoke.store)
    assert counts["done"] == counts["total"] == 6
    assert set(lab.attempts(smoke.store).values()) == {1}
    # Pods have one CPU and the gang has two ranks, so each pod held one of them. Now each pod must
    # have been on another node.
    workers = [
        pod for pod in smoke.pods if pod["metadata"]["labels"].get("ray.io/node-type") == "worker"
    ]
    assert {pod["spec"]["nodeName"] for pod in workers} == {"node-1", "node-2"}
    started = [
        record
        for key in lab.keys(smoke.store)
        if "/journal/" in key and key.endswith(".jsonl")
        for record in map(json.loads, lab.read(smoke.store, key).splitlines())
        if record.get("event") == "started"
    ]
    assert sorted(record["world_size"] for record in started) == [1, 1, 1, 1, 1, 2]


def test_the_pages_of_a_running_job_open_on_this_machine(smoke: Smoke) -> None:
    assert list(smoke.pages) == ["MLflow", "Ray's dashboard"]
    assert "MLflow" in smoke.pages["MLflow"]
    assert "Ray Dashboard" in smoke.pages["Ray's dashboard"]


def test_its_runs_traces_and_report_are_in_mlflow(lab: Lab, smoke: Smoke) -> None:
    with lab.port_forward("mlflow", 5000) as port:
        client = MlflowClient(f"http://127.0.0.1:{port}")
        experiment = client.get_experiment_by_name("cluster-smoke")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], "tags.`normsweep.trial` != ''")
        assert {run.data.tags["normsweep.trial"] for run in runs} >= set(lab.ended(smoke.store))
        for run in runs:
            assert run.info.status == "FINISHED"
            traces = [name for name in run.data.metrics if name.startswith("feature/mean_square/")]
            assert traces
            assert [point.step for point in client.get_metric_history(run.info.run_id, traces[0])][
                -1
            ] == 30
        (report,) = client.search_runs([experiment.experiment_id], "tags.`normsweep.report` != ''")
        assert "index.html" in [
            artifact.path for artifact in client.list_artifacts(report.info.run_id)
        ]
    assert report.info.artifact_uri.startswith("mlflow-artifacts:")
    kept = lab.s3.list_objects_v2(Bucket="normsweep", Prefix="mlflow/").get("Contents", ())
    assert any(item["Key"].endswith(f"{report.info.run_id}/artifacts/index.html") for item in kept)


def test_the_readme_leads_on_from_the_sweep_to_mlflow_and_a_report_from_s3_alone(
    lab: Lab, smoke: Smoke, tmp_path: Path
) -> None:
    look = readme.block("look", "sh", fill={"--out report": f"--out {tmp_path}"})
    forward, page, report = look.splitlines()
    with lab.script(submission(lab, smoke.store)[0] + report) as reported:
        output, _ = reported.communicate(timeout=120)
    assert reported.returncode == 0, output
    assert "6 of 6</b> trials ended" in (tmp_path / "index.html").read_text()

    assert forward.endswith(" 5000")
    port = free_port()
    with lab.script(f"exec {forward.removesuffix('5000')}{port}:5000") as forwarded:
        try:
            assert forwarded.stdout is not None
            assert "Forwarding from" in forwarded.stdout.readline()
            address = page.removeprefix("# then open ").replace(":5000", f":{port}")
            assert requests.get(address, timeout=60).ok
        finally:
            forwarded.terminate()


def test_submitted_again_nothing_runs_again(lab: Lab, smoke: Smoke) -> None:
    before = [job["metadata"]["uid"] for job in lab.objects("rayjobs")]
    output = lab.normsweep(*lab.submission(SMOKE, smoke.store, "--wait"))
    assert "Nothing to do: all 6 trials of cluster-smoke have ended" in output
    assert [job["metadata"]["uid"] for job in lab.objects("rayjobs")] == before


def test_a_norm_added_trains_only_the_new_trials(lab: Lab, smoke: Smoke, tmp_path: Path) -> None:
    content = yaml.safe_load(SMOKE.read_text())
    content["axes"]["norm"].append("rezero")
    content["sweep"] = "cluster-smoke-more"  # trials are shared between files, names are not
    file = tmp_path / "cluster-smoke-more.yaml"
    file.write_text(yaml.safe_dump(content))
    before = lab.attempts(smoke.store).keys()
    places = ("--node-selector", "kubernetes.io/os=linux", "--toleration", "gpu=yes:NoSchedule")
    output = lab.normsweep(*lab.submission(file, smoke.store, "--wait", *places))
    assert "8 trials, 2 to train" in output
    assert sorted(lab.attempts(smoke.store).values()) == [1] * 8
    assert status(lab, file, smoke.store)["done"] == 8

    job = only_job(lab, "cluster-smoke-more")
    (made,) = (one for one in lab.objects("rayjobs") if one["metadata"]["name"] == job)
    (workers,) = made["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    pod = workers["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    toleration = {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}
    assert toleration in pod["tolerations"]
    events = lab.normsweep("events", "cluster-smoke-more")
    assert "Created RayCluster" in events
    assert f"pod {job}-" in events
    for trial in lab.attempts(smoke.store).keys() - before:
        log = lab.normsweep("logs", "cluster-smoke-more", "--trial", trial)
        assert f"({trial})" in log
        assert "step 30" in log


@pytest.mark.chaos
def test_a_sweep_whose_head_is_lost_ends_with_the_bits_of_an_undisturbed_one(
    lab: Lab, tmp_path: Path
) -> None:
    file = disturbed(tmp_path / "headless.yaml", norms="i_ln, layer_norm")
    store = lab.store("headless")
    with lab.start(*lab.submission(file, store, "--wait")) as submission:
        done = lab.wait_second_trial(store)
        (head,) = lab.pods(only_job(lab, "headless"), "head")
        lab.kubectl("delete", "pod", head["metadata"]["name"], "--grace-period=0", "--force")
        output, _ = submission.communicate(timeout=600)
    assert submission.returncode == 0, output
    attempts = lab.attempts(store)
    assert max(attempts.values()) > 1, "nothing was disturbed"
    assert [attempts[trial] for trial in done] == [1], "what had ended was not run again"
    assert_same_bits_as_here(lab, file, store, tmp_path)


@pytest.mark.parametrize(
    ("account", "may"),
    [
        (
            "normsweep-submitter",
            {
                "rayjobs.ray.io": "get list create delete",
                "configmaps": "get create",
                "pods": "list",
                "pods/log": "get",
                "pods/portforward": "get create",
                "services": "get",
                "events": "list",
                "workloads.kueue.x-k8s.io": "list",
                "localqueues.kueue.x-k8s.io": "list",
                "namespaces": "get",
                "serviceaccounts": "get list",
                "persistentvolumeclaims": "get list",
                "workloadpriorityclasses.kueue.x-k8s.io": "get list",
                "clusterqueues.kueue.x-k8s.io": "get list",
            },
        ),
        ("normsweep-autoscaler", {}),
        ("normsweep-trial", {}),
        ("normsweep-services", {}),
    ],
)
def test_an_account_may_do_what_it_needs_and_nothing_else(
    lab: Lab, account: str, may: dict[str, str]
) -> None:
    for resource in sorted({*may, *OTHER_RESOURCES.split()}):
        for verb in VERBS.split():
            answer = lab.can_i(verb, resource, f"{ACCOUNT}:{account}")
            assert answer == (verb in may.get(resource, "").split()), (
                f"{account}: {verb} {resource}"
            )


def test_no_secret_is_in_any_object_log_tag_or_command_line(lab: Lab, smoke: Smoke) -> None:
    assert "normsweep run" in smoke.seen[-1], "command lines of pods are seen from here"
    seen = [*smoke.seen, lab.kubectl("get", KINDS, "-o", "yaml")]
    for prefix in (smoke.store.removeprefix(f"s3://{BUCKET}/"), "mlflow/"):
        pages = lab.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        for key in [item["Key"] for page in pages for item in page.get("Contents", ())]:
            if key.endswith((".json", ".jsonl", ".html", ".md", ".csv")):
                seen.append(lab.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode())
    seen.append(
        lab.kubectl("exec", "postgres-0", "--", "pg_dump", "--username", "mlflow", "mlflow")
    )
    assert "normsweep.trial" in seen[-1]
    for text in seen:
        for secret in (S3_KEY, S3_SECRET, PG_PASSWORD):
            assert secret not in text, text[max(0, text.find(secret) - 300) : text.find(secret)]


def test_mlflow_answers_again_after_its_database_was_deleted(lab: Lab, smoke: Smoke) -> None:
    def names() -> list[str]:
        return [
            experiment.name
            for experiment in MlflowClient(f"http://127.0.0.1:{port}").search_experiments()
        ]

    with lab.port_forward("mlflow", 5000) as port:
        assert "cluster-smoke" in names()
    lab.kubectl("delete", "pod", "postgres-0", deadline_s=180)
    lab.kubectl("rollout", "status", "statefulset/postgres", "--timeout=180s", deadline_s=190)
    with lab.port_forward("mlflow", 5000) as port:
        assert "cluster-smoke" in names()


def test_the_readmes_verbs_for_a_sweep_that_has_ended(lab: Lab, smoke: Smoke) -> None:
    verbs = readme.block("submit", "sh", 1, fill={"status FILE": f"status {SMOKE}"})
    *look, cancel = verbs.splitlines()
    exports = submission(lab, smoke.store)[0]
    script = exports + "\n".join(look)
    with lab.script(script, KUBECONFIG=str(SUBMITTER)) as looked:
        output, _ = looked.communicate(timeout=120)
    assert looked.returncode == 0, output
    assert "6 done" in output
    words, _, comment = cancel.partition("#")
    assert "--remove deletes a finished one" in comment
    with lab.script(words, KUBECONFIG=str(SUBMITTER)) as cancelled:
        output, _ = cancelled.communicate(timeout=120)
    assert cancelled.returncode == 0 and "nothing to cancel" in output, output
    with lab.script(f"{words.rstrip()} --remove", KUBECONFIG=str(SUBMITTER)) as cancelled:
        output, _ = cancelled.communicate(timeout=120)
    assert cancelled.returncode == 0, output
    assert lab.objects("rayjobs", "normsweep.io/sweep=cluster-smoke") == []
