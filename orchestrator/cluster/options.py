"""The flags of `normsweep submit` that a job is made with."""

from __future__ import annotations

import getpass
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parents[2] / "k8s" / "rayjob.yaml"


@dataclass(frozen=True)
class JobOptions:
    """The flags that a job is made with, besides the sweep."""

    store: str
    tracking: str
    image: str
    data_roots: tuple[str, ...] = ()
    secret: str = "normsweep-s3"  # noqa: S105 (a name)
    queue: str | None = None
    priority: str | None = None
    replicas: int | None = None
    most_replicas: int | None = None  # if more than `replicas`, the autoscaler adds the others
    cache_gib: int = 50
    # The memory of a pod beyond the plan's estimate for its ranks: for Ray and what it keeps in
    # /dev/shm.
    spare_gib: int = 2
    template: Path = TEMPLATE
    # As given; orchestrator.cluster.placing says what they mean.
    node_selector: tuple[str, ...] = ()
    tolerations: tuple[str, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    owner: str = ""  # who submits it; for people only
    night: str = ""  # the date of a gate's verdict (2026-11-29), so that a new try keeps it


def owner() -> str:
    """Who submits a job, as this machine names them; "" if it cannot."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in many containers
        return ""


def flags_of(options: JobOptions) -> dict[str, Any]:
    """The flags that a job is made with, as its annotation keeps them.

    For a template that is a hash of its content.
    """
    content = (
        None
        if options.template == TEMPLATE
        else hashlib.sha256(options.template.read_bytes()).hexdigest()[:12]
    )
    return {
        "--store": options.store,
        "--tracking": options.tracking,
        "--image": options.image,
        "--data": list(options.data_roots),
        "--secret": options.secret,
        "--queue": options.queue,
        "--priority": options.priority,
        "--replicas": options.replicas,
        "--autoscale": options.most_replicas,
        "--cache-gib": options.cache_gib,
        "--spare-gib": options.spare_gib,
        "--template": content,
        "--node-selector": list(options.node_selector),
        "--toleration": list(options.tolerations),
        "--pull-secret": list(options.pull_secrets),
    }
