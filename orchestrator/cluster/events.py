"""`normsweep events JOB`: what Kubernetes says about a job, its cluster and its pods, by time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from orchestrator.cluster.follow import find_job
from orchestrator.cluster.kube import Kube, Object
from orchestrator.cluster.watch import CLUSTER_LABEL
from orchestrator.plan.show import duration, table


def show_events(kube: Kube, given: str) -> int:
    """Print the events, oldest first. Kubernetes forgets them after an hour, by default."""
    job = find_job(kube, given)
    found = [
        (_when(event), kind, name, event)
        for kind, name in _objects(kube, job)
        for event in kube.events(name)
    ]
    if not found:
        print(f"No events about {job['metadata']['name']} (any more): they are kept for an hour.")
        return 0
    now = datetime.now(UTC)
    rows: list[tuple[str, ...]] = [("age", "type", "about", "reason", "message")]
    for when, kind, name, event in sorted(found, key=lambda one: one[0]):
        times = f" (x{event['count']})" if (event.get("count") or 1) > 1 else ""
        message = " ".join(str(event.get("message", "")).split())
        age = duration((now - when).total_seconds())
        about = f"{kind} {name}"
        rows.append(
            (age, str(event.get("type", "")), about, str(event.get("reason", "")), message + times)
        )
    print("\n".join(table(rows)))
    return 0


def _objects(kube: Kube, job: Object) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of the job and of all that it is made of now."""
    name, cluster = job["metadata"]["name"], (job.get("status") or {}).get("rayClusterName")
    yield "rayjob", name
    if cluster:
        yield "raycluster", cluster
        for pod in kube.pods(f"{CLUSTER_LABEL}={cluster}"):
            yield "pod", pod["metadata"]["name"]
    for pod in kube.pods(f"batch.kubernetes.io/job-name={name}"):
        yield "pod", pod["metadata"]["name"]


def _when(event: Object) -> datetime:
    """When an event last happened. Series have it elsewhere than single events."""
    series = event.get("series") or {}
    text = (
        event.get("lastTimestamp")
        or series.get("lastObservedTime")
        or event.get("eventTime")
        or (event.get("metadata") or {}).get("creationTimestamp")
        or "1970-01-01T00:00:00Z"
    )
    return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
