"""Which sweep file a name stands for in a store: `sweeps/<name>/file.json`, beside the sweep's report.

A sweep's report, its MLflow experiment and the names of its weights go by its name, which by default is its file's: two files
of one name would replace each other's. A file is another one if it lies elsewhere, says something else, and the one that had the
name is still where it was. So a file may be edited, moved or copied, also to the pods of a cluster; files on two machines are not
told apart.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from orchestrator.plan import Plan
from orchestrator.plan.source import Problem
from orchestrator.store.base import Store


def claim_name(plan: Plan, store: Store) -> None:
    """Note that the sweep's name stands for its file. Raises UserError where it stands for another one."""
    file = plan.path.absolute()
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    had = _read(store, plan.sweep)
    if had is not None:
        path, content = had
        if content == sha256:
            return
        if path != file and path.is_file():
            message = (
                f"the store {store.uri} has a sweep {plan.sweep!r} already, that of {path}: the two would share a report and "
                "an MLflow experiment. Give this one a name of its own, `sweep: another-name`, or move the other file away"
            )
            raise plan.source.error([Problem(("sweep",), message)])
    record = {"file": str(file), "sha256": sha256}
    store.put(_key(plan.sweep), json.dumps(record, indent=2).encode() + b"\n")


def _read(store: Store, sweep: str) -> tuple[Path, str] | None:
    """Path and checksum of the file that had the name; None where there is none, or the record is damaged."""
    with suppress(KeyError, TypeError, ValueError, RecursionError):
        record = json.loads(store.get(_key(sweep)))
        return Path(record["file"]), str(record["sha256"])
    return None


def _key(sweep: str) -> str:
    return f"sweeps/{sweep}/file.json"
