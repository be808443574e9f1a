"""The GPUs that trials may count on, and the memory of each kind.

This machine's GPUs are found without torch, which takes seconds to import.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# Memory in 10^9 bytes, from NVIDIA's data sheets, by the names that Ray gives to accelerators. For
# a kind sold in several sizes it is the smallest, which `resources.gpu_memory_gb` can override.
MEMORY_GB: Mapping[str, float] = {
    "K80": 12,
    "P4": 8,
    "P100": 12,
    "T4": 16,
    "V100": 16,
    "A10": 24,
    "A10G": 24,
    "A30": 24,
    "A40": 48,
    "A100": 40,
    "A100-40G": 40,
    "A100-80G": 80,
    "L4": 24,
    "L40": 48,
    "L40S": 48,
    "RTX-PRO-6000": 96,
    "H20": 96,
    "H100": 80,
    "H200": 141,
    "B200": 180,
    "GB200": 186,
}


@dataclass(frozen=True)
class Gpus:
    """The value of `gpus_per_worker: auto` (0 or 1), why, and the memory of the smallest GPU.

    The memory is None unless that of every GPU is known.
    """

    auto: int
    why: str
    memory_gb: float | None = None


def counted(gpus: float, kinds: Iterable[str]) -> str:
    """A number of GPUs and their kinds in words: `2 GPUs (H100)`."""
    listed = ", ".join(sorted(set(kinds)))
    return f"{gpus:g} GPU{'s' * (gpus != 1)}" + (f" ({listed})" if listed else "")


def smallest_gb(kinds: Iterable[str]) -> float | None:
    """The memory of the smallest of these kinds of GPU; None if a kind is unknown or none given."""
    sizes = [MEMORY_GB.get(kind) for kind in kinds]
    known = [size for size in sizes if size is not None]
    return min(known) if known and len(known) == len(sizes) else None


def of_this_machine(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> Gpus:
    """The GPUs with an NVIDIA device file, except those that CUDA_VISIBLE_DEVICES hides.

    Ray counts a local machine's GPUs in the same way.
    """
    found = sum(
        re.fullmatch(r"nvidia\d+", path.name) is not None for path in (root / "dev").glob("nvidia*")
    )
    models = [
        _model(path) for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    ]
    found = found or len(models)
    if not found:
        return Gpus(0, "this machine has no NVIDIA GPU")
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        shown = [
            name for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")
        ]
        found = min(found, len(shown))
        if not found:
            return Gpus(0, f"CUDA_VISIBLE_DEVICES={visible!r} hides this machine's GPUs")
    kinds = [_kind(model) for model in models]
    sizes = [_size_gb(model) for model in models]
    known = [size for size in sizes if size is not None]
    memory_gb = min(known) if known and len(known) == len(sizes) else None
    return Gpus(1, f"this machine has {counted(found, filter(None, kinds))}", memory_gb)


def processor(*, on_gpu: bool, root: Path = Path("/")) -> str:
    """The model of what a rank of this machine computes on: its GPUs, or else its CPU.

    Models give other bits than others. "" if the machine does not say.
    """
    found = (root / "proc/driver/nvidia/gpus").glob("*/information") if on_gpu else ()
    if models := sorted({_model(path) for path in found} - {""}):
        return ", ".join(models)
    if on_gpu:
        return ""
    try:
        said = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        said = ""
    model = re.search(r"^model name\s*:\s*(.+?)\s*$", said, re.MULTILINE)
    return model[1] if model else platform.machine()


def _model(information: Path) -> str:
    """The model of a GPU from the driver's description of it: `NVIDIA H100 80GB HBM3`."""
    try:
        found = re.search(
            r"^Model:\s*(.+?)\s*$", information.read_text(errors="replace"), re.MULTILINE
        )
    except OSError:
        return ""
    return found.group(1) if found else ""


def _kind(model: str) -> str | None:
    """Ray's name for a model: `A100` for `NVIDIA A100-SXM4-40GB`."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", model)
    named = [kind for kind in MEMORY_GB if f"-{kind}-" in f"-{words}-"]
    return max(named, key=len, default=None)  # `A100-80G` contains `A100`


def _size_gb(model: str) -> float | None:
    """The memory that the model's name gives, otherwise the least that its kind has."""
    said = re.search(r"\b(\d+)GB\b", model)
    kind = _kind(model)
    return float(said.group(1)) if said else MEMORY_GB[kind] if kind else None
