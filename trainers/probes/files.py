"""Arrays in a run folder: `probes/<probe>/step-<n>.safetensors`, each written once and whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from trainers.checkpoint import folder_name
from trainers.durable import write_aside


def write_arrays(
    out: Path, probe: str, step: int, arrays: Mapping[str, NDArray[np.float64]]
) -> None:
    """Keep what a probe measured after `step`."""
    path = out / "probes" / probe / f"{folder_name(step)}.safetensors"
    # A trial that continues from a checkpoint may measure a step again.
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, save(dict(arrays), {"probe": probe, "step": str(step)}))
