"""Prepares the end of a head's pod: `python -m orchestrator.run.leave`, preStop in k8s/rayjob.yaml.

First it silences Ray's dashboard. That would report what follows as a failed job, for which KubeRay
buys a new cluster; a head that does not answer is replaced in the same cluster, whose submitter
submits again. The dashboard is suspended, not killed, since `ray start --block` ends the whole pod
when the dashboard is gone. Then the sweep's driver is asked to end, so that trials leave
checkpoints and their runs in MLflow are closed.
"""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

DASHBOARD = "ray/dashboard/dashboard.py"
DRIVER_WITHIN_S = 30.0  # the rest of the pod's grace period is left to Ray
LOOK_EVERY_S = 0.2


def leave() -> None:
    drivers = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.endswith(DASHBOARD) for word in words):
            process.suspend()
        elif is_driver(words):
            drivers.append(process)
    for driver in drivers:
        with suppress(psutil.NoSuchProcess):
            driver.terminate()
    wait_for(drivers, DRIVER_WITHIN_S)


def is_driver(words: list[str]) -> bool:
    is_ours = any(word.endswith("normsweep") for word in words)
    return is_ours and "--for-job" in words and not {"run", "regress"}.isdisjoint(words)


def wait_for(processes: list[psutil.Process], deadline_s: float) -> None:
    """Wait until they have ended. One that its parent never asks about has ended too."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until and not all(has_ended(process) for process in processes):
        time.sleep(LOOK_EVERY_S)


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


if __name__ == "__main__":
    leave()
