"""The record of an attempt: where it runs, with which versions, on which placement."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from trainers.spec import RunSpec

VERSIONS = ("torch", "deepspeed", "ray", "mlflow", "numpy", "normsweep")


def provenance(spec: RunSpec, *, sweep: str, run: str, commit: str) -> dict[str, Any]:
    # How a worker's share of a batch is divided, which changes after running out of memory.
    slices = {"micro_batch": spec.micro_batch, "accumulation": spec.accumulation}
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return {
        "sweep": sweep,
        "run": run,
        "host": platform.node(),
        "machine": machine,
        "versions": {name: version(name) for name in VERSIONS},
        "commit": commit,
        "placement": {**spec.placement.model_dump(mode="json"), **slices},
    }
