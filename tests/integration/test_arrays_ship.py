"""Arrays of a trial that is killed and continued: those of each step are in the store once, and are
shipped before the checkpoint that covers them.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from orchestrator.plan import load_plan
from orchestrator.plan.expand import Trial
from orchestrator.run.gang import Assignment, Worker
from orchestrator.store import open_store
from orchestrator.store.attempts import new_attempt
from orchestrator.store.checkpoints import write_manifest
from tests.sweeps import write_sweep


def attempt(trial: Trial, folder: Path, until_step: int) -> None:
    """One attempt without Ray: a worker and its rank, killed once a step's checkpoint counts."""
    store = open_store(str(folder / "runs"))
    number = new_attempt(store, trial, {})
    job = Assignment(
        trial.id,
        number,
        trial.spec,
        str(folder / "runs"),
        str(folder / "work"),
        str(folder / "cache"),
        (),
    )
    worker = Worker(job, rank=0)
    try:
        worker.fetch_data()
        worker.start(*worker.rendezvous())
        until = time.monotonic() + 200
        while True:
            report = worker.poll()
            for part in report.checkpoints:
                layout = {"world_size": 1, "zero_stage": 0}
                write_manifest(store, trial.id, number, step=part.step, files=part.files, **layout)
                if part.step >= until_step:
                    return
            assert report.exit_code in (None, 0), report.log_tail
            assert time.monotonic() < until, "the checkpoint does not come"
            time.sleep(0.02)
    finally:
        worker.end()


@pytest.mark.timeout(500)
def test_a_trial_killed_and_continued_has_every_steps_arrays_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = write_sweep(tmp_path, steps=60, checkpoint_every=20)
    path.write_text(
        path.read_text().replace(
            "probe_every: 20,", "probe_every: 10, probes: [features, channels],"
        )
    )
    (trial,) = load_plan(path).trials
    attempt(trial, tmp_path, 20)
    attempt(trial, tmp_path, 60)
    store = open_store(str(tmp_path / "runs"))
    keys = store.list(f"trials/{trial.id}/probes")
    assert {key.split("/")[3] for key in keys} == {"channels"}, "features are scalars"
    names = [key.rpartition("/")[2].removesuffix(".safetensors").split("-")[1:] for key in keys]
    assert [int(step) for step, _ in names] == list(range(0, 61, 10))
    assert {int(step): number for step, number in names}[20] == "1", (
        "shipped before the checkpoint that covers it"
    )
    assert {number for _, number in names} == {"1", "2"}
    for key in keys:
        arrays = load(store.get(key))
        assert arrays.keys() == {"group_0", "group_1"}
        assert all(array.shape == (8,) and np.isfinite(array).all() for array in arrays.values())
