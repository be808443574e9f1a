"""Arrays in a run folder: `probes/<probe>/step-<n>.safetensors`, each written once and whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import save

from trainers.checkpoint import folder_name
from trainers.durable import write_aside
from trainers.spec import RunSpec

# Of one probe and trial, by default: those of position_bias have 2 MB each for HAT.
MOST_FILES = 100


def arrays_every(spec: RunSpec) -> int:
    """Steps between two files of arrays: a multiple of `probe_every` where none is given."""
    every, steps = spec.observe.probe_every, spec.training.steps
    return spec.observe.arrays_every or every * max(1, -(-steps // (every * MOST_FILES)))


def folder_of(probe: str) -> str:
    """The folder of a probe; that of `package.module:Class` is `package.module.Class`."""
    return probe.replace(":", ".")


def write_arrays(out: Path, probe: str, step: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep what a probe measured after `step`."""
    path = out / "probes" / folder_of(probe) / f"{folder_name(step)}.safetensors"
    # A trial that continues from a checkpoint may measure a step again.
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, save(dict(arrays), {"probe": probe, "step": str(step)}))
