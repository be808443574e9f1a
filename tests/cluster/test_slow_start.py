"""Pods that start slowly, because their nodes have other work, are left to start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.lab import Lab
from tests.cluster.sweeps import disturbed, only_job

pytestmark = pytest.mark.chaos
CGROUPS = Path("/sys/fs/cgroup")
SLOW_S = 60  # what Ray gives its dashboard by default


@contextmanager
def loaded_nodes() -> Iterator[None]:
    """Other work on every CPU, beside which all pods of a node weigh a fifth of one process."""
    weights = [CGROUPS / f"cpu/test-kube-{node}" / "cpu.shares" for node in (1, 2)]
    low, usual = "192", "1024"
    if not weights[0].exists():  # version 2 of cgroups
        weights = [CGROUPS / f"test-kube-{node}" / "cpu.weight" for node in (1, 2)]
        low, usual = "19", "100"
    forever = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(forever) for _ in range(os.cpu_count() or 1)]
    try:
        for weight in weights:
            weight.write_text(low)
        yield
    finally:
        for weight in weights:
            weight.write_text(usual)
        for other in others:
            other.kill()


def ready(lab: Lab, job: str) -> dict[str, bool]:
    """Pod -> whether it is ready, of those that Ray runs in."""
    found = [*lab.pods(job, "head"), *lab.pods(job, "worker")]
    return {pod["metadata"]["name"]: is_ready(pod) for pod in found}


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)


def test_a_start_that_takes_minutes_replaces_no_pod(lab: Lab, tmp_path: Path) -> None:
    """By default Ray gives its dashboard one minute, and KubeRay the head ten."""
    file, store = (
        disturbed(tmp_path / "slow-start.yaml", steps=10, workers=1),
        lab.store("slow-start"),
    )
    began, seen = time.monotonic(), set[str]()

    def are_ready() -> bool:
        pods = ready(lab, job)
        seen.update(pods)
        return len(pods) == 2 and all(pods.values())

    with loaded_nodes():
        lab.normsweep(*lab.submission(file, store))
        job = only_job(lab, "slow-start")
        lab.wait(are_ready, "a head and a worker that are ready", 1500)
        took_s = time.monotonic() - began
    assert took_s > SLOW_S, f"{took_s:.0f} s: nothing was slow"
    assert len(seen) == 2, f"pods were replaced: {sorted(seen)}"
    assert "1 done" in lab.normsweep(*lab.submission(file, store, "--wait"))
    assert (
        lab.objects("rayjobs", "normsweep.io/sweep=slow-start")[0]["status"].get("failed", 0) == 0
    )
    assert list(lab.attempts(store).values()) == [1]
