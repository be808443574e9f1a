"""Trackers: where people look at the runs of a sweep. An address's scheme selects the tracker."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import masked
from orchestrator.tracking.address import parse

if TYPE_CHECKING:
    from orchestrator.plan import Plan
    from orchestrator.tracking.base import Kind, Tracker

# By the scheme of an address; all other schemes are MLflow's. A new tracker is a file and a line
# here.
TRACKERS = {
    "memory": "orchestrator.tracking.memory:MemoryTracker",
}
MLFLOW = "orchestrator.tracking.mlflow:MlflowTracker"


def open_tracker(uri: str, plan: Plan, kind: Kind = "trial") -> Tracker:
    """The tracker at an address, for one sweep's trials, or for the nights of its gate.

    Raises UserError if the address is not valid.
    """
    module, _, name = TRACKERS.get(_scheme(uri), MLFLOW).partition(":")
    tracker: Tracker = getattr(importlib.import_module(module), name)(
        uri, experiment_of(plan.sweep, kind), plan.question, kind
    )
    return tracker


def experiment_of(sweep: str, kind: Kind) -> str:
    """The name of an experiment. That of nights has a dot, which the name of no sweep has."""
    return sweep if kind == "trial" else f"{sweep}.regressions"


def shown(uri: str) -> str:
    """An address as it may be printed, without a password. Raises UserError if it is not valid."""
    return parse(uri).shown if is_mlflow(uri) else masked(uri)


def is_there(uri: str) -> bool:
    """Whether there may be runs at an address: false for a local database that does not exist."""
    database = parse(uri).database if is_mlflow(uri) else None
    return database is None or Path(database).is_file()


def is_mlflow(uri: str) -> bool:
    """Whether an address is meant for MLflow, valid or not."""
    return _scheme(uri) not in TRACKERS


def _scheme(uri: str) -> str:
    return uri.partition(":")[0]
