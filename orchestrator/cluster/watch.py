"""The state of a job, in words: what KubeRay, Kueue and pods report, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.cluster.kube import Kube, Object
from orchestrator.cluster.queue import QUEUE_LABEL, queue_notes
from orchestrator.plan.show import duration

FINISHED = frozenset({"Complete", "Failed", "ValidationFailed"})
CLUSTER_LABEL = "ray.io/cluster"
REASONS = {
    "SubmissionFailed": (
        "the submitter could not pass the sweep to the head: `normsweep logs` shows what it said"
    ),
    "DeadlineExceeded": (
        "the job's deadline passed (activeDeadlineSeconds in k8s/rayjob.yaml): "
        "submit the sweep again to continue it"
    ),
    "PreRunningDeadlineExceeded": "its pods were not running in time: see the pods below",
    "AppFailed": (
        "the sweep could not run: `normsweep logs` shows why; fix that and submit the sweep again"
    ),
    "JobStatusCheckTimeoutExceeded": (
        "the head did not answer for minutes: submit the sweep again to continue it"
    ),
    "ValidationFailed": (
        "KubeRay refuses the RayJob: KubeRay is older than 1.6, or k8s/rayjob.yaml was changed"
    ),
}
SHOWN_LINES = 4
SHORT_S = 60  # a shorter time is not worth printing
ANSI = re.compile(r"\x1b\[[0-9;]*m")
NO_IMAGE = "the image cannot be pulled: is its name right, and may the nodes read its registry?"
WAITING = {
    "ImagePullBackOff": NO_IMAGE,
    "ErrImagePull": NO_IMAGE,
    "ErrImageNeverPull": "the image is not on the node",
    "InvalidImageName": "the image's name is not valid",
    "CreateContainerConfigError": (
        "something that the pod names is missing, e.g. the Secret with the S3 keys"
    ),
    "CreateContainerError": "the node cannot make the container",
    "RunContainerError": "the node cannot start the container",
    "CrashLoopBackOff": "the container keeps ending: `normsweep logs` shows why",
}
# These last until someone fixes the job, the image or the cluster.
CERTAIN = frozenset(WAITING) - {"CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
CERTAIN_WORDS = re.compile(
    r"error looking up service account|violates PodSecurity|"
    r'(secret|configmap|persistentvolumeclaim) "[^"]*" not found'
)


@dataclass(frozen=True)
class Note:
    """A sentence about a job.

    `is_certain`: it stays true until someone does something about it. `since`: when it began,
    according to the API.
    """

    text: str
    is_certain: bool = False
    since: str = field(default="", compare=False)

    def in_words(self, now: datetime) -> str:
        """The sentence, with how long it has been true."""
        if not self.since:
            return self.text
        seconds = (now - datetime.fromisoformat(self.since)).total_seconds()
        return (
            f"{self.text.rstrip('.')} (for {duration(seconds)})"
            if seconds >= SHORT_S
            else self.text
        )


@dataclass(frozen=True)
class JobState:
    """The state of a job.

    `phase` is one word; `notes` are sentences, the certain ones first.
    """

    name: str
    sweep: str
    phase: str
    notes: tuple[Note, ...]
    store: str
    finished: bool

    def lines(self) -> list[str]:
        """The notes in words, as of now."""
        return [note.in_words(datetime.now(UTC)) for note in self.notes]


def job_state(kube: Kube, job: Object) -> JobState:
    """The state of a RayJob, with what its queue and its pods say."""
    metadata, status = job["metadata"], job.get("status") or {}
    deployment = status.get("jobDeploymentStatus") or "New"
    notes: list[Note] = []
    if reason := status.get("reason"):
        notes.append(Note(f"{reason}: {REASONS.get(reason, status.get('message', ''))}"))
        if reason == "AppFailed":
            notes += map(Note, last_lines(status.get("message", "")))
    if deployment == "Suspended" or (
        deployment == "New" and QUEUE_LABEL in metadata.get("labels", {})
    ):
        notes += map(Note, queue_notes(kube, job))
    if deployment not in FINISHED:
        notes += _notes_of_pods(kube, metadata["name"], status, deployment)
    return JobState(
        metadata["name"],
        metadata["labels"].get("normsweep.io/sweep", ""),
        _phase(deployment, status),
        tuple(sorted(dict.fromkeys(notes), key=lambda note: not note.is_certain)),
        metadata.get("annotations", {}).get("normsweep.io/store", ""),
        deployment in FINISHED,
    )


def _notes_of_pods(
    kube: Kube, name: str, status: Mapping[str, Any], deployment: str
) -> Iterator[Note]:
    cluster = status.get("rayClusterName")
    for selector in ([f"{CLUSTER_LABEL}={cluster}"] if cluster else []) + [
        f"batch.kubernetes.io/job-name={name}"
    ]:
        for pod in kube.pods(selector):
            yield from pod_notes(pod)
            if _comes_up(pod):
                yield from (
                    _of_event(pod["metadata"]["name"], event)
                    for event in _warnings(kube, pod["metadata"]["name"])
                )
    if deployment != "Running":  # e.g. a quota that is used up
        yield from (_of_event("", event) for event in _warnings(kube, cluster or name))


def _of_event(pod: str, event: Object) -> Note:
    message = str(event["message"])
    return Note(f"{pod}: {message}" if pod else message, CERTAIN_WORDS.search(message) is not None)


def _comes_up(pod: Object) -> bool:
    """Check whether a pod is on a node but its containers do not say yet what they wait for.

    They may wait for a volume, for example, which only an event says.
    """
    status = pod.get("status") or {}
    containers = status.get("containerStatuses", ())
    waiting = {
        ((container.get("state") or {}).get("waiting") or {}).get("reason")
        for container in containers
    }
    return (
        status.get("phase") == "Pending"
        and bool(pod["spec"].get("nodeName"))
        and waiting <= {"ContainerCreating"}
    )


def last_lines(message: str) -> list[str]:
    """The last lines that the entrypoint printed, from KubeRay's message, without Ray's own."""
    lines = [ANSI.sub("", line).strip() for line in message.splitlines()]
    return [
        line
        for line in lines
        if line and not line.startswith(("Job entrypoint", "Running entrypoint"))
    ][-SHOWN_LINES:]


def _phase(deployment: str, status: Mapping[str, Any]) -> str:
    word = {"Suspended": "queued", "New": "new", "Complete": "finished"}.get(
        deployment, deployment.lower()
    )
    earlier = int(status.get("failed") or 0)
    return f"{word} (cluster {earlier + 1})" if earlier and deployment not in FINISHED else word


def _warnings(kube: Kube, name: str) -> Sequence[Object]:
    return [event for event in kube.events(name) if event.get("type") == "Warning"][-2:]


def pod_notes(pod: Object) -> list[Note]:
    """Say what keeps a pod from running, ended one of its containers, or made one start again."""
    name, status, notes = pod["metadata"]["name"], pod.get("status") or {}, []
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    since = str(scheduled.get("lastTransitionTime") or "")
    if scheduled.get("status") == "False":
        why = scheduled.get("message", scheduled.get("reason", ""))
        notes.append(Note(f"{name}: no node takes it: {why}", since=since))
    for container in (
        *status.get("initContainerStatuses", ()),
        *status.get("containerStatuses", ()),
    ):
        notes += _container_notes(name, container, since)
    if status.get("reason") == "Evicted":
        notes.append(Note(f"{name}: evicted: {status.get('message', '')}"))
    return notes


def _container_notes(pod: str, container: Object, since: str) -> Iterator[Note]:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    if why := WAITING.get(reason):
        message = waiting.get("message", container.get("image", ""))
        yield Note(f"{pod}: {reason}: {why} ({message})", reason in CERTAIN, since)
    ends = [
        (container.get(state) or {}).get("terminated") or {} for state in ("state", "lastState")
    ]
    for ended in ends:
        if ended.get("reason") == "OOMKilled":
            yield Note(
                f"{pod}: OOMKilled: {container['name']} went over its memory limit. "
                "What is done is kept, and the sweep continues. For more memory, submit it with "
                "--spare-gib (workers) or --template (head); to need less, set a smaller "
                "resources.micro_batch in the sweep."
            )
    if restarts := container.get("restartCount", 0):
        last = ends[1]
        code = (
            f", last with exit code {last['exitCode']} ({last.get('reason', 'unknown')})"
            if "exitCode" in last
            else ""
        )
        yield Note(
            f"{pod}: {container['name']} restarted {restarts} time{'s' * (restarts != 1)}{code}"
        )
