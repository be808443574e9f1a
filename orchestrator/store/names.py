"""Which sweep file a name stands for in a store, and its trials: `sweeps/<name>/file.json`, beside the sweep's report.

A sweep's report, its MLflow experiment and the names of its weights go by its name, which by default is its file's: two files
of one name would replace each other's. A file is another one if it lies elsewhere, says something else, and the one that had the
name is still where it was. So a file may be edited, moved or copied, also to the pods of a cluster; files on two machines are not
told apart.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from orchestrator.plan import Plan
from orchestrator.plan.source import Problem
from orchestrator.store import records
from orchestrator.store.base import Store
from orchestrator.store.records import read_record, sealed


def claim_name(plan: Plan, store: Store) -> None:
    """Note that the sweep's name stands for its file. Raises UserError where it stands for another one."""
    file = plan.path.absolute()
    record = {
        "file": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "trials": [trial.id for trial in plan.trials],
    }
    had = read_record(store, _key(plan.sweep), records.SWEEP_FILE)
    if isinstance(had, dict) and had["sha256"] != record["sha256"]:
        path = Path(had["file"])
        if path != file and path.is_file():
            message = (
                f"the store {store.uri} has a sweep {plan.sweep!r} already, that of {path}: the two would share a report and "
                "an MLflow experiment. Give this one a name of its own, `sweep: another-name`, or move the other file away"
            )
            raise plan.source.error([Problem(("sweep",), message)])
    elif isinstance(had, dict) and had.get("trials") == record["trials"]:
        return
    elif isinstance(had, dict):
        record["file"] = had[
            "file"
        ]  # the same file, perhaps as a pod has it; the grid's ids have changed, e.g. by a norm's code
    store.put(_key(plan.sweep), sealed(record))


def trials_of_sweep(store: Store, sweep: str) -> list[str]:
    """Ids of the trials that a sweep had when it was last run or submitted; empty where the store does not know."""
    had = read_record(store, _key(sweep), records.SWEEP_FILE)
    return list(had.get("trials", [])) if isinstance(had, dict) else []


def _key(sweep: str) -> str:
    return f"sweeps/{sweep}/file.json"
