"""Notes on a queue say what Kueue lacks for a sweep. Objects are as Kueue 0.19 gives them."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cluster.kube import quantity
from orchestrator.cluster.queue import queue_notes

Object = dict[str, Any]
KUEUE_SAID = (
    "couldn't assign flavors to pod set head: "
    "insufficient unused quota for cpu in flavor default, 1200m more needed"
)


def pod_set(name: str, count: int, **requests: str) -> Object:
    return {
        "name": name,
        "count": count,
        "template": {"spec": {"containers": [{"resources": {"requests": requests}}]}},
    }


WORKLOAD: Object = {
    "metadata": {
        "name": "rayjob-smoke",
        "creationTimestamp": "2026-11-24T10:00:00Z",
        "ownerReferences": [{"uid": "u-1"}],
    },
    "spec": {
        "queueName": "sweeps",
        "podSets": [
            pod_set("head", 1, cpu="500m", memory="2Gi"),
            pod_set("cpu1", 1, cpu="1", memory="4Gi"),
            pod_set("s", 1, cpu="0.1"),
        ],
    },
    "status": {
        "conditions": [
            {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": KUEUE_SAID}
        ]
    },
}
JOB: Object = {"metadata": {"uid": "u-1", "labels": {"kueue.x-k8s.io/queue-name": "sweeps"}}}


class Cluster:
    """A cluster as notes on a queue need it. An account that may not see quotas gets None."""

    def __init__(self, cluster_queue: Object | None) -> None:
        self.cluster_queue = cluster_queue

    def find(self, plural: str) -> list[Object]:
        queue = {"metadata": {"name": "sweeps"}, "spec": {"clusterQueue": "all"}}
        return {"workloads": [WORKLOAD], "localqueues": [queue]}[plural]

    def content(self, kind: str, name: str) -> Object | None:
        assert (kind, name) == ("ClusterQueue", "all")
        return self.cluster_queue


def cluster_queue(used_cpu: str) -> Object:
    quota = [{"name": "cpu", "nominalQuota": "2"}, {"name": "memory", "nominalQuota": "32Gi"}]
    used = [{"name": "cpu", "total": used_cpu}, {"name": "memory", "total": "8Gi"}]
    return {
        "spec": {"resourceGroups": [{"flavors": [{"name": "default", "resources": quota}]}]},
        "status": {"flavorsReservation": [{"name": "default", "resources": used}]},
    }


def test_a_queue_that_is_full_says_what_is_needed_and_what_is_free() -> None:
    notes = queue_notes(Cluster(cluster_queue("1600m")), JOB)  # type: ignore[arg-type]
    assert notes == ["waits in queue sweeps: position 1 of 1", "needs 1.6 CPUs, 0.4 of 2 free"]


@pytest.mark.parametrize(
    "seen", [None, cluster_queue("0")], ids=["quota not seen", "nothing lacking"]
)
def test_where_that_is_unknown_kueues_own_words_are_shown(seen: Object | None) -> None:
    assert queue_notes(Cluster(seen), JOB)[1] == f"Pending: {KUEUE_SAID}"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "size"), [("1200m", 1.2), ("4Gi", 4 << 30), ("64", 64), ("1e3", 1000), ("2M", 2e6)]
)
def test_a_quantity_is_a_number(text: str, size: float) -> None:
    assert quantity(text) == pytest.approx(size)
