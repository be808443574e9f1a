"""Prepares the end of a head's pod: `python -m orchestrator.run.leave`, preStop in k8s/rayjob.yaml.

First it silences Ray's dashboard. That would report what follows as a failed job, for which KubeRay
buys a new cluster; a head that does not answer is replaced in the same cluster, whose submitter
submits again. The dashboard is suspended, not killed, since `ray start --block` ends the whole pod
when the dashboard is gone. Then the sweep's driver is asked to end, so that trials leave
checkpoints and their runs in MLflow are closed.
"""

from __future__ import annotations

import psutil

DASHBOARD = "ray/dashboard/dashboard.py"
DRIVER_WITHIN_S = 30.0  # the rest of the pod's grace period is left to Ray


def leave() -> None:
    drivers = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.endswith(DASHBOARD) for word in words):
            process.suspend()
        elif (
            "run" in words
            and "--for-job" in words
            and any(word.endswith("normsweep") for word in words)
        ):
            drivers.append(process)
    for driver in drivers:
        driver.terminate()
    psutil.wait_procs(drivers, DRIVER_WITHIN_S)


if __name__ == "__main__":
    leave()
