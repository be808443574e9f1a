"""What the pod of a cluster's head does before it ends (preStop in k8s/rayjob.yaml): `python -m orchestrator.run.leave`.

Ray's dashboard is silenced first. It would tell what follows as a job that failed, and KubeRay buys a new cluster for that; a
head that cannot be asked is replaced in the same cluster, whose submitter submits again. (Suspended, not killed: `ray start
--block` ends the whole pod when the dashboard is gone.) Then the sweep's driver is told to end, so that trials leave
checkpoints and their runs in MLflow are closed.
"""

from __future__ import annotations

import psutil

DASHBOARD = "ray/dashboard/dashboard.py"
DRIVER_WITHIN_S = 30.0  # and the rest of the pod's grace period is Ray's


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
