"""The nodes of the Ray cluster that are about to end, or have ended."""

from __future__ import annotations

import ray
import ray._private.state


def draining_nodes() -> set[str]:
    """Ids of the nodes that are to end soon.

    Ray (2.60) has no public call for this; Ray Train asks in the same way.
    """
    return set(ray._private.state.state.get_draining_nodes())


def dead_nodes() -> set[str]:
    """Ids of the nodes that have ended."""
    return {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
