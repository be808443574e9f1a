"""What a sweep's job is doing, in words: KubeRay's and Kueue's states and reasons, and what to do about each."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.kube import Kube, NotThere, Object
from orchestrator.errors import EnvironmentProblem

FINISHED = frozenset({"Complete", "Failed", "ValidationFailed"})
CLUSTER_LABEL = "ray.io/cluster"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
REASONS = {
    "SubmissionFailed": "the submitter could not hand the sweep to the head: `normsweep logs` shows what it said",
    "DeadlineExceeded": "the job's deadline passed (activeDeadlineSeconds in k8s/rayjob.yaml): submit again, it continues",
    "PreRunningDeadlineExceeded": "its pods were not running in time: look at the pods below",
    "AppFailed": "the sweep could not run: `normsweep logs` shows why; submit again once it is mended",
    "JobStatusCheckTimeoutExceeded": "the head did not answer for minutes: submit again, it continues",
    "ValidationFailed": "KubeRay refuses the RayJob: its version is older than 1.6, or k8s/rayjob.yaml was changed",
}
SHOWN_LINES = 4
LOOK_EVERY_S = 2.0
SUBMITTER = "ray-job-submitter"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
WAITING = {
    "ImagePullBackOff": "the image cannot be pulled: is its name right, and may the nodes read its registry?",
    "ErrImagePull": "the image cannot be pulled: is its name right, and may the nodes read its registry?",
    "ErrImageNeverPull": "the image is not on the node",
    "InvalidImageName": "the image's name is no name of an image",
    "CreateContainerConfigError": "something that the pod names is missing, e.g. the Secret with the S3 keys",
    "CreateContainerError": "the node cannot make the container",
    "RunContainerError": "the node cannot start the container",
    "CrashLoopBackOff": "the container ends again and again: `normsweep logs` shows why",
}


@dataclass(frozen=True)
class JobState:
    """`phase` is one word; `notes` are sentences, what is wrong first."""

    name: str
    sweep: str
    phase: str
    notes: tuple[str, ...]
    store: str
    finished: bool


def job_state(kube: Kube, job: Object) -> JobState:
    """The state of a RayJob, with what its queue and its pods say."""
    metadata, status = job["metadata"], job.get("status") or {}
    deployment = status.get("jobDeploymentStatus") or "New"
    notes: list[str] = []
    if reason := status.get("reason"):
        notes.append(f"{reason}: {REASONS.get(reason, status.get('message', ''))}")
        if reason == "AppFailed":
            notes += last_lines(status.get("message", ""))
    if deployment == "Suspended" or (deployment == "New" and QUEUE_LABEL in metadata.get("labels", {})):
        notes += queue_notes(kube, job)
    if deployment not in FINISHED:
        if cluster := status.get("rayClusterName"):
            for pod in kube.pods(f"{CLUSTER_LABEL}={cluster}"):
                notes += pod_notes(pod)
        for pod in kube.pods(f"batch.kubernetes.io/job-name={metadata['name']}"):
            notes += pod_notes(pod)
        if deployment != "Running":  # e.g. a quota that is used up
            notes += [
                str(event["message"]) for event in _warnings(kube, status.get("rayClusterName") or metadata["name"])
            ]
    return JobState(
        metadata["name"],
        metadata["labels"].get("normsweep.io/sweep", ""),
        _phase(deployment, status),
        tuple(dict.fromkeys(notes)),
        metadata.get("annotations", {}).get("normsweep.io/store", ""),
        deployment in FINISHED,
    )


def last_lines(message: str) -> list[str]:
    """Of what the entrypoint printed, as KubeRay's message has it, its end without what Ray adds."""
    lines = [ANSI.sub("", line).strip() for line in message.splitlines()]
    return [line for line in lines if line and not line.startswith(("Job entrypoint", "Running entrypoint"))][
        -SHOWN_LINES:
    ]


def _phase(deployment: str, status: Mapping[str, Any]) -> str:
    word = {"Suspended": "queued", "New": "new", "Complete": "finished"}.get(deployment, deployment.lower())
    earlier = int(status.get("failed") or 0)
    return f"{word} (cluster {earlier + 1})" if earlier and deployment not in FINISHED else word


def _warnings(kube: Kube, name: str) -> Sequence[Object]:
    return [event for event in kube.events(name) if event.get("type") == "Warning"][-2:]


def pod_notes(pod: Object) -> list[str]:
    """What keeps a pod from running, or ended a container of it."""
    name, status, notes = pod["metadata"]["name"], pod.get("status") or {}, []
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            notes.append(f"{name}: no node takes it: {condition.get('message', condition.get('reason', ''))}")
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if why := WAITING.get(waiting.get("reason", "")):
            notes.append(f"{name}: {waiting['reason']}: {why} ({waiting.get('message', container.get('image', ''))})")
        for state in ("state", "lastState"):
            ended = (container.get(state) or {}).get("terminated") or {}
            if ended.get("reason") == "OOMKilled":
                notes.append(
                    f"{name}: OOMKilled: {container['name']} went over its memory limit. What was done is kept and continues. More "
                    "memory: submit --spare-gib (workers) or --template (head); less need: resources.micro_batch in the sweep."
                )
    if status.get("reason") == "Evicted":
        notes.append(f"{name}: evicted: {status.get('message', '')}")
    return notes


def queue_notes(kube: Kube, job: Object) -> list[str]:
    """Where a job stands in its queue, by Kueue."""
    queue = job["metadata"]["labels"].get(QUEUE_LABEL)
    if queue is None:
        return ["suspended from outside: kubectl patch rayjob sets spec.suspend"]
    workloads = [item for item in kube.find("workloads") if item["spec"].get("queueName") == queue]
    mine = next((w for w in workloads if _owner(w) == job["metadata"]["uid"]), None)
    if mine is None:
        return [f"waits for Kueue to look at it (queue {queue})"]
    notes = []
    waiting = sorted((w for w in workloads if not _is(w, "QuotaReserved") and not _is(w, "Finished")), key=_order)
    if mine in waiting:
        notes.append(f"waits in queue {queue}: position {waiting.index(mine) + 1} of {len(waiting)}")
        condition = _condition(mine, "QuotaReserved")
        if condition is not None:
            notes.append(f"{condition['reason']}: {condition['message']}")
    if (evicted := _condition(mine, "Evicted")) is not None and evicted["status"] == "True":
        notes.append(f"{evicted['reason']}: {evicted['message']}. It continues from the store when there is room.")
    return notes


def _owner(workload: Object) -> str | None:
    owners = workload["metadata"].get("ownerReferences") or [{}]
    uid: str | None = owners[0].get("uid")
    return uid


def _condition(workload: Object, kind: str) -> Object | None:
    conditions = (workload.get("status") or {}).get("conditions", ())
    return next((condition for condition in conditions if condition["type"] == kind), None)


def _is(workload: Object, kind: str) -> bool:
    condition = _condition(workload, kind)
    return condition is not None and condition["status"] == "True"


def _order(workload: Object) -> tuple[int, str]:
    """As Kueue takes them: by priority, then by age."""
    return -int(workload["spec"].get("priority") or 0), workload["metadata"]["creationTimestamp"]


def log_lines(kube: Kube, job: Object, *, follow: bool) -> Iterator[str]:
    """The driver's output, as submitters' pods have it: of the newest, or with `follow` of each until the job has finished.

    Raises EnvironmentProblem where there is none.
    """
    name, shown = job["metadata"]["name"], set[str]()
    while True:
        started = [pod for pod in _submitters(kube, name) if pod["status"].get("phase") != "Pending"]
        fresh = [pod["metadata"]["name"] for pod in started if pod["metadata"]["name"] not in shown]
        for pod in fresh if follow else fresh[-1:]:
            shown.add(pod)
            with contextlib.suppress(NotThere):  # it has just gone
                yield from (ANSI.sub("", line) for line in kube.log(pod, SUBMITTER, follow=follow))
        state = None if fresh else job_state(kube, job)
        if shown and (not follow or (state is not None and state.finished)):
            return
        if state is not None and (not follow or state.finished):
            told = "".join(f"\n  {note}" for note in state.notes)
            raise EnvironmentProblem(f"{name} is {state.phase}: there is no log (any more).{told}")
        time.sleep(LOOK_EVERY_S)
        try:
            job = kube.get("rayjobs", name)
        except NotThere:
            raise EnvironmentProblem(f"{name} was cancelled") from None


def _submitters(kube: Kube, name: str) -> list[Object]:
    """Oldest first."""
    return sorted(
        kube.pods(f"batch.kubernetes.io/job-name={name}"), key=lambda pod: str(pod["metadata"]["creationTimestamp"])
    )
