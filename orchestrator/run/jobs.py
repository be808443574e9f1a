"""What the trainables of a run share: its trials, their settings, and what is recorded of them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

from orchestrator.plan import Trial
from orchestrator.run.early import Watch
from orchestrator.store.processes import Process
from trainers.spec import RunSpec

VERSIONS = ("torch", "deepspeed", "ray", "mlflow", "numpy", "normsweep")


@dataclass(frozen=True)
class Jobs:
    """The trials of one run by id, and the settings that they share."""

    sweep: str
    trials: Mapping[str, Trial]
    store_uri: str
    work: str | None
    cache: str | None
    data_roots: tuple[str, ...]
    commit: str
    started: float  # seconds since 1970
    run: str = ""
    watch: Watch | None = None  # what early stopping goes by
    process: Process = field(default_factory=dict)  # the driver's

    def provenance(self, spec: RunSpec) -> dict[str, Any]:
        """The record of an attempt: where it runs, with which versions, on which placement."""
        # How a worker's share of a batch is divided, which changes after running out of memory.
        slices = {"micro_batch": spec.micro_batch, "accumulation": spec.accumulation}
        machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        return {
            "sweep": self.sweep,
            "run": self.run,
            "process": dict(self.process),
            "host": platform.node(),
            "machine": machine,
            "versions": dict(_versions()),
            "commit": self.commit,
            "placement": {**spec.placement.model_dump(mode="json"), **slices},
        }


@cache  # each looks through all packages, and an actor runs many trials
def _versions() -> Mapping[str, str]:
    return {name: version(name) for name in VERSIONS}
