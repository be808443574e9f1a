"""The sweep file that owns a name in a store, and its trials' ids: `sweeps/<name>/file.json`.

The record is kept beside the sweep's report. The report, the MLflow experiment and the names of the
weights to start from all go by the sweep's name, by default that of its file, so two files with the
same name would overwrite each other's. A file counts as a different one if its path and its content
differ from the owner's and the owner is still where it was. So a file may be edited, moved or
copied, including to the pods of a cluster. Files on two machines cannot be distinguished.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from orchestrator.plan import Plan
from orchestrator.plan.source import Problem
from orchestrator.store import records
from orchestrator.store.base import Store
from orchestrator.store.records import Damaged, read_record, sealed


def claim_name(plan: Plan, store: Store) -> None:
    """Record that the sweep's name belongs to its file.

    Raises UserError if it belongs to another one.
    """
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
                f"the store {store.uri} already has a sweep {plan.sweep!r}, from {path}, and the "
                "two would share a report and an MLflow experiment. Give this one another name, "
                "`sweep: another-name`, or move the other file away"
            )
            raise plan.source.error([Problem(("sweep",), message)])
    elif isinstance(had, dict) and had.get("trials") == record["trials"]:
        return
    elif isinstance(had, dict):
        # The same file, perhaps a pod's copy of it; only the trials' ids have changed, for instance
        # because a norm's code has.
        record["file"] = had["file"]
    store.put(_key(plan.sweep), sealed(record))


def trials_of_sweep(store: Store, sweep: str) -> list[str]:
    """Ids of the trials that a sweep had when it was last run or submitted; empty if unknown."""
    had = read_record(store, _key(sweep), records.SWEEP_FILE)
    return list(had.get("trials", [])) if isinstance(had, dict) else []


def recorded_sweeps(store: Store) -> dict[str, list[str] | Damaged]:
    """The ids of the trials of every sweep, by its name; Damaged where no record says them."""
    found: dict[str, list[str] | Damaged] = {}
    for key in store.list("sweeps"):
        if not key.endswith("/file.json") or key.count("/") != 2:
            continue
        record = read_record(store, key, records.SWEEP_FILE)
        trials = record.get("trials") if isinstance(record, dict) else None
        lacking = record if isinstance(record, Damaged) else Damaged(key, "names no trials")
        found[key.split("/")[1]] = trials or lacking
    return found


def report_prefix(sweep: str) -> str:
    """Where the files of a sweep's report are."""
    return f"sweeps/{sweep}/report"


def _key(sweep: str) -> str:
    return f"sweeps/{sweep}/file.json"
