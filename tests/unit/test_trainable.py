"""An actor that Tune makes for a trial and then never asks to train it leaves the trial alone."""

from __future__ import annotations

from pathlib import Path

from orchestrator.plan import load_plan
from orchestrator.run.jobs import Jobs
from orchestrator.run.trainable import GangTrainable
from orchestrator.store import FolderStore
from orchestrator.store.leases import Lease, acquire
from orchestrator.store.processes import this_process
from tests.sweeps import write_sweep


def test_an_actor_that_is_never_asked_takes_nothing_from_the_one_that_trains(
    tmp_path: Path,
) -> None:
    """As when Tune has begun to make an actor for a retry and finds that another has come free."""
    plan = load_plan(write_sweep(tmp_path))
    (trial,) = plan.trials
    store = FolderStore(tmp_path / "runs")
    jobs = Jobs(
        sweep=plan.sweep,
        trials={trial.id: trial},
        store_uri=store.uri,
        work=None,
        cache=None,
        data_roots=(),
        commit="",
        started=0.0,
        run="this",
        process=this_process(),
    )
    lease = acquire(store, trial, jobs.provenance(trial.spec))
    assert isinstance(lease, Lease)
    before = store.list("trials")
    actor = GangTrainable.__new__(GangTrainable)
    actor.setup({"trial": trial.id}, jobs)
    actor.cleanup()
    assert store.list("trials") == before
    lease.renew()
