"""A job's place in its Kueue queue, and what it waits for, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.cluster.kube import Kube, Object, quantity

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
GIB = 1 << 30


def queue_notes(kube: Kube, job: Object) -> list[str]:
    """Sentences about a job's place in its queue and what it waits for, according to Kueue."""
    queue = job["metadata"]["labels"].get(QUEUE_LABEL)
    if queue is None:
        return ["suspended, but not by a queue: kubectl patch rayjob can set spec.suspend to false"]
    workloads = [item for item in kube.find("workloads") if item["spec"].get("queueName") == queue]
    mine = next((w for w in workloads if _owner(w) == job["metadata"]["uid"]), None)
    if mine is None:
        return [f"waits for Kueue to look at it (queue {queue})"]
    notes = []
    waiting = sorted(
        (w for w in workloads if not _is(w, "QuotaReserved") and not _is(w, "Finished")), key=_order
    )
    if mine in waiting:
        notes.append(
            f"waits in queue {queue}: position {waiting.index(mine) + 1} of {len(waiting)}"
        )
        notes += _lacking(kube, queue, mine)
    if (evicted := _condition(mine, "Evicted")) is not None and evicted["status"] == "True":
        notes.append(
            f"{evicted['reason']}: {evicted['message']}. "
            "It continues from the store when there is room."
        )
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
    """The key to sort workloads by, as Kueue takes them: priority, then age."""
    return -int(workload["spec"].get("priority") or 0), workload["metadata"]["creationTimestamp"]


def _lacking(kube: Kube, queue: str, workload: Object) -> Iterator[str]:
    """Say what there is too little of.

    Falls back on Kueue's own words where that is not known, e.g. because the account may not see
    the quota.
    """
    short = list(_sums(kube, queue, workload))
    if short:
        yield "; ".join(short)
    elif (condition := _condition(workload, "QuotaReserved")) is not None:
        yield f"{condition['reason']}: {condition['message']}"


def _sums(kube: Kube, queue: str, workload: Object) -> Iterator[str]:
    named = next(
        (item for item in kube.find("localqueues") if item["metadata"]["name"] == queue), None
    )
    cluster_queue = kube.content("ClusterQueue", named["spec"]["clusterQueue"]) if named else None
    if cluster_queue is None:
        return
    groups = cluster_queue["spec"].get("resourceGroups", ())
    quota = _total(
        resource
        for group in groups
        for flavor in group["flavors"]
        for resource in flavor["resources"]
    )
    flavors = (cluster_queue.get("status") or {}).get("flavorsReservation", ())
    reserved = _total(resource for flavor in flavors for resource in flavor["resources"])
    for name, needed in sorted(_needs(workload).items()):
        free = quota.get(name, 0.0) - reserved.get(name, 0.0)
        if needed > free:
            left, total = _number(name, max(free, 0.0)), _number(name, quota.get(name, 0.0))
            yield f"needs {_amount(name, needed)}, {left} of {total} free"


def _total(resources: Iterator[Mapping[str, Any]]) -> dict[str, float]:
    """Sum resources by name: of a quota (`nominalQuota`) or of what is in use (`total`)."""
    summed: dict[str, float] = {}
    for resource in resources:
        size = quantity(str(resource.get("nominalQuota", resource.get("total", "0"))))
        summed[resource["name"]] = summed.get(resource["name"], 0.0) + size
    return summed


def _needs(workload: Object) -> dict[str, float]:
    """Sum what all pods of a job ask for.

    As Kueue does, a pod counts as the sum of its containers, or as an init container that alone
    asks for more.
    """
    needs: dict[str, float] = {}
    for pod_set in workload["spec"].get("podSets", ()):
        pod = pod_set["template"]["spec"]
        of_pod: dict[str, float] = {}
        for container in pod.get("containers", ()):
            for name, size in _requests(container).items():
                of_pod[name] = of_pod.get(name, 0.0) + size
        for container in pod.get("initContainers", ()):
            for name, size in _requests(container).items():
                of_pod[name] = max(of_pod.get(name, 0.0), size)
        for name, size in of_pod.items():
            needs[name] = needs.get(name, 0.0) + size * int(pod_set.get("count", 1))
    return needs


def _requests(container: Object) -> dict[str, float]:
    resources = container.get("resources") or {}
    wanted = (resources.get("limits") or {}) | (resources.get("requests") or {})
    return {name: quantity(str(size)) for name, size in wanted.items()}


def _amount(name: str, size: float) -> str:
    unit = {"cpu": "CPU", "memory": "GiB of memory", "nvidia.com/gpu": "GPU"}.get(name, name)
    plural = "s" if unit in ("CPU", "GPU") and size != 1 else ""
    return f"{_number(name, size)} {unit}{plural}"


def _number(name: str, size: float) -> str:
    return f"{size / GIB if name == 'memory' else size:.4g}"
