"""Notes on pods that do not run. Their statuses are as Kubernetes 1.34 gives them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestrator.cluster.follow import Patience
from orchestrator.cluster.watch import JobState, Note, pod_notes
from orchestrator.errors import EnvironmentProblem

Object = dict[str, Any]

POD = "smoke-1f2e3d-x7k2p-cpu1-worker-4qz8n"
IMAGE = "registry.example/normsweep:0.1.0"


def pod(**status: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": POD,
            "namespace": "normsweep",
            "labels": {"ray.io/node-type": "worker"},
        },
        "spec": {"nodeName": "node-1"},
        "status": {"qosClass": "Burstable", "startTime": "2026-11-24T10:00:00Z", **status},
    }


def conditions(
    *, scheduled: bool = True, ready: bool = False, **of_scheduling: str
) -> list[Object]:
    words = {True: "True", False: "False"}
    known = {"lastProbeTime": None, "lastTransitionTime": "2026-11-24T10:00:00Z"}
    return [
        {"type": "PodReadyToStartContainers", "status": words[scheduled], **known},
        {"type": "Initialized", "status": words[scheduled], **known},
        {"type": "Ready", "status": words[ready], **known},
        {"type": "ContainersReady", "status": words[ready], **known},
        {"type": "PodScheduled", "status": words[scheduled], **known, **of_scheduling},
    ]


def container(
    state: Object, last: Object | None = None, name: str = "ray-worker", restarts: int = 0
) -> Object:
    return {
        "name": name,
        "image": IMAGE,
        "imageID": "",
        "ready": "running" in state,
        "started": "running" in state,
        "restartCount": restarts,
        "state": state,
        "lastState": last or {},
    }


def waiting(reason: str, message: str | None = None) -> Object:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def terminated(reason: str, code: int) -> Object:
    times = {"startedAt": "2026-11-24T10:00:05Z", "finishedAt": "2026-11-24T10:07:31Z"}
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            **times,
            "containerID": "containerd://5f1c",
        }
    }


RUNNING: Object = {"running": {"startedAt": "2026-11-24T10:00:05Z"}}
OUT_OF_MEMORY = terminated("OOMKilled", 137)


def only_note(of: Object) -> str:
    (note,) = [note for note in pod_notes(of) if "restarted" not in note.text]
    assert note.text.startswith(f"{POD}: ")
    return note.text


def test_nothing_is_noted_of_a_healthy_pod() -> None:
    setup = container(terminated("Completed", 0), name="wait-gcs-ready")
    healthy = pod(
        phase="Running",
        conditions=conditions(ready=True),
        initContainerStatuses=[setup],
        containerStatuses=[container(RUNNING)],
    )
    assert pod_notes(healthy) == []


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_nothing_is_noted_of_a_pod_on_its_way(reason: str) -> None:
    coming = pod(
        phase="Pending", conditions=conditions(), containerStatuses=[container(waiting(reason))]
    )
    assert pod_notes(coming) == []


def test_nothing_is_noted_of_a_pod_that_has_no_status_yet() -> None:
    assert pod_notes({"metadata": {"name": POD}}) == []
    assert pod_notes(pod(phase="Pending")) == []


@pytest.mark.parametrize(
    "status",
    [
        container(OUT_OF_MEMORY),
        container(RUNNING, last=OUT_OF_MEMORY, restarts=1),
        container(waiting("PodInitializing"), last=OUT_OF_MEMORY, restarts=1),
    ],
    ids=["ended", "running again", "starting again"],
)
def test_a_container_over_its_memory_limit_is_named_with_what_to_do(status: Object) -> None:
    note = only_note(pod(phase="Running", conditions=conditions(), containerStatuses=[status]))
    assert "OOMKilled: ray-worker went over its memory limit" in note
    assert "continues" in note
    assert "--spare-gib" in note and "micro_batch" in note


def test_a_container_that_ended_otherwise_is_not_said_to_lack_memory() -> None:
    killed = container(terminated("Error", 137), last=terminated("Completed", 0))
    assert pod_notes(pod(phase="Failed", conditions=conditions(), containerStatuses=[killed])) == []


def test_a_container_that_runs_out_of_memory_again_and_again_is_said_to() -> None:
    message = f"back-off 5m0s restarting failed container=ray-head pod={POD}_normsweep(0b0f)"
    status = container(waiting("CrashLoopBackOff", message), last=OUT_OF_MEMORY, restarts=7)
    crash, memory, restarts = pod_notes(
        pod(phase="Running", conditions=conditions(), containerStatuses=[status])
    )
    assert (
        "CrashLoopBackOff" in crash.text
        and "normsweep logs" in crash.text
        and "back-off 5m0s" in crash.text
    )
    assert "OOMKilled" in memory.text
    assert (
        restarts.text == f"{POD}: ray-worker restarted 7 times, last with exit code 137 (OOMKilled)"
    )


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: not found'),
        ("ErrImagePull", f'failed to pull and unpack image "{IMAGE}": 403 Forbidden'),
        (
            "ErrImageNeverPull",
            f'Container image "{IMAGE}" is not present with pull policy of Never',
        ),
        (
            "InvalidImageName",
            f'Failed to apply default image tag "{IMAGE}": invalid reference format',
        ),
    ],
)
def test_an_image_that_cannot_be_had_is_named(reason: str, message: str) -> None:
    status = container(waiting(reason, message))
    note = only_note(pod(phase="Pending", conditions=conditions(), containerStatuses=[status]))
    assert reason in note and message in note
    assert "image" in note.replace(message, "")


def test_an_image_is_named_where_kubernetes_says_nothing_of_it() -> None:
    status = container(waiting("ImagePullBackOff"))
    assert IMAGE in only_note(
        pod(phase="Pending", conditions=conditions(), containerStatuses=[status])
    )


def test_what_only_a_person_can_mend_is_told_apart_from_what_may_pass() -> None:
    def is_certain(reason: str) -> bool:
        (note,) = pod_notes(
            pod(
                phase="Pending",
                conditions=conditions(),
                containerStatuses=[container(waiting(reason))],
            )
        )
        return note.is_certain

    assert all(
        map(
            is_certain,
            ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"),
        )
    )
    assert not any(map(is_certain, ("CrashLoopBackOff", "RunContainerError")))
    full = conditions(
        scheduled=False,
        reason="Unschedulable",
        message="0/2 nodes are available: 2 Insufficient cpu.",
    )
    assert not pod_notes(pod(phase="Pending", conditions=full))[0].is_certain


def test_a_note_says_for_how_long_it_has_been_so() -> None:
    scheduling = conditions(scheduled=False, reason="Unschedulable", message="2 Insufficient cpu.")
    (note,) = pod_notes(pod(phase="Pending", conditions=scheduling))
    begun = datetime.fromisoformat("2026-11-24T10:00:00Z")
    assert note.in_words(begun + timedelta(seconds=20)) == note.text, (
        "too short to be worth a figure"
    )
    assert note.in_words(begun + timedelta(minutes=95)).endswith("2 Insufficient cpu (for 1.6 h)")


def test_waiting_gives_up_on_pods_that_cannot_start_and_on_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    pull, back_off = (
        Note(f"{POD}: {reason}: the image cannot be pulled", True)
        for reason in ("ErrImagePull", "ImagePullBackOff")
    )
    passing = Note(f"{POD}: no node takes it: 2 Insufficient cpu.")

    def state(*notes: Note) -> JobState:
        return JobState("smoke-1f2e3d", "smoke", "initializing", notes, "s3://lab/runs", False)

    patience = Patience()
    for seconds in range(0, 7200, 60):
        clock[0] = seconds
        patience.look(state(passing))
    for seconds in range(7200, 7200 + 170, 10):  # tried, waited for, tried again: one cause
        clock[0] = seconds
        patience.look(state(passing, pull if seconds % 20 else back_off))
    clock[0] = 7400
    with pytest.raises(
        EnvironmentProblem,
        match=r"ErrImagePull: the image cannot be pulled(.|\n)*normsweep cancel smoke-1f2e3d",
    ):
        patience.look(state(pull))


def test_a_secret_that_is_missing_is_named() -> None:
    status = container(waiting("CreateContainerConfigError", 'secret "normsweep-s3" not found'))
    note = only_note(pod(phase="Pending", conditions=conditions(), containerStatuses=[status]))
    assert "CreateContainerConfigError" in note
    assert "S3 keys" in note
    assert 'secret "normsweep-s3" not found' in note


def test_a_pod_that_no_node_takes_says_what_the_nodes_lack() -> None:
    message = (
        "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. "
        "preemption: 0/2 nodes are available."
    )
    scheduling = conditions(scheduled=False, reason="Unschedulable", message=message)
    assert (
        only_note(pod(phase="Pending", conditions=scheduling))
        == f"{POD}: no node takes it: {message}"
    )


def test_a_pod_that_no_node_takes_has_a_reason_without_a_message() -> None:
    scheduling = conditions(scheduled=False, reason="SchedulingGated")
    assert only_note(pod(phase="Pending", conditions=scheduling)).endswith("SchedulingGated")


def test_for_an_evicted_pod_the_note_says_why() -> None:
    message = (
        "The node was low on resource: ephemeral-storage. "
        "Threshold quantity: 1Gi, available: 812Mi."
    )
    note = only_note(
        pod(phase="Failed", reason="Evicted", message=message, conditions=conditions())
    )
    assert note == f"{POD}: evicted: {message}"


def test_a_waiting_init_container_keeps_the_pod_from_running() -> None:
    message = f'Back-off pulling image "{IMAGE}"'
    stuck = pod(
        phase="Pending",
        conditions=conditions(),
        initContainerStatuses=[
            container(waiting("ImagePullBackOff", message), name="wait-gcs-ready")
        ],
        containerStatuses=[container(waiting("PodInitializing"))],
    )
    assert message in only_note(stuck)


def test_every_waiting_container_of_a_pod_is_reported() -> None:
    secret = waiting("CreateContainerConfigError", 'secret "normsweep-s3" not found')
    image = waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"')
    statuses = [container(secret, name="ray-head"), container(image, name="autoscaler")]
    notes = pod_notes(pod(phase="Pending", conditions=conditions(), containerStatuses=statuses))
    assert ["S3 keys" in note.text for note in notes] == [True, False]
