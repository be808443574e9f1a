"""Around the end of a sweep on a cluster: cancelled and continued, its head deleted, waited for."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.cluster.lab import Lab
from tests.cluster.sweeps import assert_same_bits_as_here, disturbed, only_job

pytestmark = pytest.mark.chaos
MOMENTS = int(os.environ.get("NORMSWEEP_MOMENTS", "1"))


def runs(lab: Lab, sweep: str) -> dict[str, str]:
    """Trial -> status of its run in MLflow."""
    with lab.port_forward("mlflow", 5000) as port:
        client = MlflowClient(f"http://127.0.0.1:{port}")
        experiment = client.get_experiment_by_name(sweep)
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], "tags.`normsweep.trial` != ''")
        return {run.data.tags["normsweep.trial"]: run.info.status for run in found}


def minutes(told: str) -> float:
    """Of `about 2 min one after the other`, in seconds."""
    number, unit = re.search(r"about ([\d.]+) (s|min|h) one after the other", told).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_a_cancelled_sweep_is_closed_everywhere_and_continues(lab: Lab, tmp_path: Path) -> None:
    file, store = (
        disturbed(tmp_path / "broken-off.yaml", steps=1200, workers=1),
        lab.store("broken-off"),
    )
    new = lab.normsweep(*lab.submission(file, store))
    assert "files sent along: broken-off.yaml" in new
    with lab.start("logs", "-f", "broken-off") as followed:
        lab.wait_checkpoint(store, 2)
        assert set(runs(lab, "broken-off").values()) == {"RUNNING"}
        lab.normsweep("cancel", "broken-off")
        log, _ = followed.communicate(timeout=120)
    assert "Traceback" not in log and "ray job" not in log, log
    assert "was cancelled" in log
    assert set(runs(lab, "broken-off").values()) == {"KILLED"}
    told = lab.normsweep("status", "broken-off", "--store", store)
    assert "not on the cluster (any more)" in told and "1 interrupted" in told
    assert "of one that was cancelled" in lab.normsweep(
        "status", "broken-off", "--store", lab.store("other"), expect=2
    )

    again = lab.normsweep(*lab.submission(file, store, "--wait"))
    assert minutes(again) < minutes(new), "what is done is not estimated again"
    assert re.search(r"of 1 trial: 1 running", again), "how far it is is told"
    assert "broken-off: 1 done, 0 diverged, 0 failed" in again
    assert f"Report: {store}/sweeps/broken-off/report" in again
    assert set(runs(lab, "broken-off").values()) == {"FINISHED"}
    log = lab.normsweep("logs", "broken-off")
    assert "step 0/" not in log, "a resumed attempt shows the step that it continues from"
    assert_same_bits_as_here(lab, file, store, tmp_path)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_head_that_is_deleted_is_replaced_in_the_same_cluster(
    lab: Lab, tmp_path: Path, moment: int
) -> None:
    sweep = f"beheaded-{moment}"
    file, store = disturbed(tmp_path / f"{sweep}.yaml", steps=1000, workers=1), lab.store(sweep)
    with lab.start(*lab.submission(file, store, "--wait")) as submission:
        lab.wait_step(store, 40 + 80 * (moment % 10))
        job = only_job(lab, sweep)
        (head,) = lab.pods(job, "head")
        (cluster,) = lab.objects("rayclusters", f"ray.io/originated-from-cr-name={job}")
        lab.kubectl("delete", "pod", head["metadata"]["name"], deadline_s=180)
        output, _ = submission.communicate(timeout=600)
    assert submission.returncode == 0, output
    assert "(cluster 2)" not in output, "no retry was spent"
    assert f"{sweep}: 1 done" in output
    (rayjob,) = lab.objects("rayjobs", f"normsweep.io/sweep={sweep}")
    assert rayjob["status"]["rayClusterName"] == cluster["metadata"]["name"]
    assert not rayjob["status"].get("failed")
    assert max(lab.attempts(store).values()) > 1, "nothing was disturbed"
    assert_same_bits_as_here(lab, file, store, tmp_path)
