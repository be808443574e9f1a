"""A gate every night on a real Kubernetes, set up by the commands of docs/how-to/nightly.md.

The gate asks what cannot be: that a network without norms has as many parameters as one with
LayerNorm. So every night fails, and how a failed night is found can be looked at.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.lab import LOCAL, NAMESPACE, ROOT, Lab
from tests.cluster.test_smoke import ACCOUNT, OTHER_RESOURCES, VERBS
from tests.readme import nightly_block, write_nightly

pytestmark = pytest.mark.chaos

CRON_JOB = "normsweep-nightly"
LABEL = f"app.kubernetes.io/name={CRON_JOB}"
GATE = """\
# Has a network without norms as many parameters as one with LayerNorm?
axes:
  backbone: [{name: swinir-tiny, embed_dim: 12, depths: [2], num_heads: [2]}]
  norm: [layer_norm, none]
  task: [sr_x2]
data: {evaluate: []}
training: {steps: 5, batch_size: 2, patch_size_px: 16, lr: 1.0e-4}
observe: {log_every: 1, probe_every: 5, probe_patches: 2, checkpoint_every: 5}
resources: {device: cpu}
gate: {baseline: layer_norm, margin: null, parameters: equal}
"""
MAY = {
    "rayjobs.ray.io": "get list create delete",
    "configmaps": "get create",
    "pods": "list",
    "events": "list",
    "workloads.kueue.x-k8s.io": "list",
    "localqueues.kueue.x-k8s.io": "list",
}
Object = dict[str, Any]


@dataclass(frozen=True)
class Nights:
    """Two nights of a CronJob that fires every minute: their Jobs, oldest first.

    The first one's pod was evicted once it had submitted, as when its node is drained. `at_once` is
    how many were seen running at each look, `folder` that of the overlay.
    """

    store: str
    folder: Path
    jobs: list[Object]
    at_once: list[int]


def jobs_of(lab: Lab, cron_job: str) -> list[Object]:
    """The Jobs that a CronJob has made by itself, oldest first."""
    found = [
        job
        for job in lab.objects("jobs.batch")
        for owner in job["metadata"].get("ownerReferences", ())
        if (owner["name"], owner.get("controller")) == (cron_job, True)
    ]
    return sorted(found, key=lambda job: str(job["metadata"]["creationTimestamp"]))


def how_it_ended(job: Object) -> str:
    """Complete or Failed; "" while it runs."""
    conditions = (job.get("status") or {}).get("conditions", ())
    ends = [found["type"] for found in conditions if found["status"] == "True"]
    return next((end for end in ends if end in ("Complete", "Failed")), "")


def exit_code(lab: Lab, job: str) -> int:
    """The exit code of a Job's only pod."""
    (pod,) = lab.objects("pods", f"batch.kubernetes.io/job-name={job}")
    code: int = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
    return code


def evict(lab: Lab, job: str, folder: Path) -> None:
    (pod,) = lab.objects("pods", f"batch.kubernetes.io/job-name={job}")
    metadata = {"name": pod["metadata"]["name"], "namespace": NAMESPACE}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    (folder / "eviction.json").write_text(json.dumps(body))
    place = f"/api/v1/namespaces/{NAMESPACE}/pods/{metadata['name']}/eviction"
    lab.kubectl("create", "--raw", place, "-f", folder / "eviction.json")


def patch(lab: Lab, cron_job: str, **spec: Any) -> None:
    lab.kubectl("patch", "cronjob", cron_job, "--patch", json.dumps({"spec": spec}))


@pytest.fixture(scope="module")
def nights(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    folder, store = tmp_path_factory.mktemp("nightly"), lab.store("nightly")
    fill = {
        "registry.example.org/normsweep, newTag: 0.1.0": (
            f"{LOCAL}/normsweep, newTag: {lab.image.rpartition(':')[2]}"
        ),
        "registry.example.org/normsweep:0.1.0": lab.image,
        "s3://normsweep/runs": store,
        '"30 1 * * *"': '"* * * * *"',
    }
    overlay = write_nightly(shutil.copytree(ROOT / "k8s", folder / "k8s"), fill)
    (overlay / "nightly.yaml").write_text(GATE)
    at_once: list[int] = []

    def seen() -> list[Object]:
        found = jobs_of(lab, CRON_JOB)
        at_once.append(sum(not how_it_ended(job) for job in found))
        return found

    lab.kubectl("apply", "-k", overlay)
    try:
        (first,) = lab.wait(seen, "a first night, within a minute or so")
        lab.wait(lambda: lab.objects("rayjobs", "normsweep.io/sweep=nightly"), "its RayJob")
        evict(lab, first["metadata"]["name"], folder)
        lab.wait(lambda: len(seen()) == 2, "a second night, after the first", 600)
        patch(lab, CRON_JOB, suspend=True)
        lab.wait(lambda: all(map(how_it_ended, seen())), "the end of both nights", 300)
        yield Nights(store, folder, seen(), at_once)
    finally:
        lab.kubectl("delete", "-k", overlay, "--ignore-not-found", deadline_s=300)
        lab.start("cancel", "--remove", "nightly").communicate(timeout=300)


def test_the_cron_job_fires_and_its_pod_ends_with_the_verdict(lab: Lab, nights: Nights) -> None:
    for job in nights.jobs:
        name = job["metadata"]["name"]
        assert exit_code(lab, name) == 4, log(lab, job)
        assert how_it_ended(job) == "Failed"


def test_two_nights_never_run_at_once_and_a_missed_one_follows_the_one_that_delayed_it(
    lab: Lab, nights: Nights
) -> None:
    reasons = {
        event["reason"]
        for event in lab.objects("events")
        if event["involvedObject"].get("name") == CRON_JOB
    }
    assert "JobAlreadyActive" in reasons, "a night came due while another ran"
    assert max(nights.at_once) == 1
    first, second = nights.jobs
    ended = max(found["lastTransitionTime"] for found in first["status"]["conditions"])
    waited = when(second["metadata"]["creationTimestamp"]) - when(ended)
    assert timedelta(seconds=-1) <= waited < timedelta(seconds=60), "without waiting for a minute"


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_second_night_trains_nothing_and_needs_no_workers(lab: Lab, nights: Nights) -> None:
    assert list(lab.attempts(nights.store).values()) == [1, 1]
    assert "no workers: every trial has ended" in log(lab, nights.jobs[1])


def test_a_night_whose_pod_is_evicted_goes_on_and_a_new_pod_waits_for_it(
    lab: Lab, nights: Nights
) -> None:
    told = log(lab, nights.jobs[0])
    assert re.match(r"nightly-[0-9a-f]{6} is \w+ already\.", told), told
    assert "2 to train" not in told, "it was not submitted again"


def log(lab: Lab, job: Object) -> str:
    return lab.kubectl("logs", f"job/{job['metadata']['name']}")


def test_the_page_and_the_exit_code_of_a_failed_night_are_where_the_docs_say(
    lab: Lab, nights: Nights
) -> None:
    set_up, look = (nightly_block("On Kubernetes", "sh", number) for number in (1, 2))
    with lab.script(set_up, cwd=nights.folder) as night:
        told, _ = night.communicate(timeout=600)
    assert night.returncode == 0, told
    assert "parameters" in told
    page = re.search(rf"{nights.store}/(regressions/nightly/(\S+)/index\.html)", told)
    assert page is not None, told
    assert b"parameters" in lab.read(nights.store, page[1])
    verdict = json.loads(lab.read(nights.store, f"regressions/nightly/{page[2]}.json"))
    assert verdict["verdict"] == "fail"
    (gate,) = (found for found in verdict["gates"] if found["verdict"] == "fail")
    assert (gate["gate"], gate["norm"]) == ("parameters", "none")

    lab.wait(lambda: how_it_ended(one_job(lab, "first-night")), "the end of the night by hand", 60)
    with lab.script(look, cwd=nights.folder) as looked:
        told, _ = looked.communicate(timeout=60)
    assert looked.returncode == 0, told
    for name in ("first-night", *(job["metadata"]["name"] for job in nights.jobs)):
        assert re.search(rf"^{name} +Failed", told, re.MULTILINE)
        assert f"{name}\t4\n" in told
    lab.kubectl("delete", "job", "first-night")


def one_job(lab: Lab, name: str) -> Object:
    job: Object = json.loads(lab.kubectl("get", "job", name, "-o", "json"))
    return job


def test_a_missed_night_is_caught_up_once(lab: Lab, nights: Nights) -> None:
    """Its time passes while the CronJob is suspended, as when the cluster is off."""
    made = json.loads(lab.kubectl("get", "cronjob", CRON_JOB, "-o", "json"))
    due = (datetime.now(UTC) + timedelta(minutes=1, seconds=15)).replace(second=0, microsecond=0)
    spec = {**made["spec"], "schedule": f"{due:%M %H} * * *", "suspend": True}
    spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"] = ["--help"]
    kinds = {key: made[key] for key in ("apiVersion", "kind")}
    lab.apply(json.dumps({**kinds, "metadata": {"name": "missed"}, "spec": spec}))
    try:
        lab.wait(lambda: datetime.now(UTC) > due + timedelta(seconds=10), "its time passes", 120)
        assert jobs_of(lab, "missed") == []
        patch(lab, "missed", suspend=False)
        lab.wait(lambda: status(lab, "missed").get("lastSuccessfulTime"), "the late night")
        assert when(status(lab, "missed")["lastScheduleTime"]) == due
        assert len(jobs_of(lab, "missed")) == 1
    finally:
        lab.kubectl("delete", "cronjob", "missed")


def status(lab: Lab, cron_job: str) -> Object:
    found: Object = json.loads(lab.kubectl("get", "cronjob", cron_job, "-o", "json"))["status"]
    return found


def test_its_account_may_do_what_a_night_needs_and_nothing_else(lab: Lab, nights: Nights) -> None:
    for resource in sorted({*MAY, *OTHER_RESOURCES.split(), "cronjobs.batch", "pods/log"}):
        for verb in VERBS.split():
            answer = lab.can_i(verb, resource, f"{ACCOUNT}:{CRON_JOB}")
            assert answer == (verb in MAY.get(resource, "").split()), f"{verb} {resource}"


def test_the_pod_of_a_night_is_the_only_one_with_its_account(lab: Lab, nights: Nights) -> None:
    pods = [pod for pod in lab.objects("pods") if pod["spec"].get("serviceAccountName") == CRON_JOB]
    assert pods
    names = [pod["metadata"]["name"] for pod in pods]
    assert names == [pod["metadata"]["name"] for pod in lab.objects("pods", LABEL)]
