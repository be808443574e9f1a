"""A Ray cluster on this machine, which commands join with `--address`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

JOINED_WITHIN_S = 300.0


@contextmanager
def local_cluster(monkeypatch: pytest.MonkeyPatch, num_cpus: int) -> Iterator[Any]:
    """A cluster of one node without a dashboard, to which nodes can be added."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        join(made, num_cpus=num_cpus, object_store_memory=80 << 20, include_dashboard=False)
        yield made
    finally:
        made.shutdown()


def join(cluster: Any, **node: Any) -> None:
    """Add a node and wait for it, on a busy machine for longer than Ray (2.60) would."""
    cluster._wait_for_node(cluster.add_node(wait=False, **node), timeout=JOINED_WITHIN_S)
