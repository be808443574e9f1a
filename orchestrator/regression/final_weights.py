"""Checksums of final weights: of the files, as results carry them, and of what is in the files.

Two files may hold the same tensors and differ, as they do if a network lists its tensors in another
order. So files are compared first, and their contents where they differ.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import TYPE_CHECKING, Any

from orchestrator.errors import EnvironmentProblem
from orchestrator.store.base import Store
from orchestrator.store.freed import why_gone
from orchestrator.store.records import Record

if TYPE_CHECKING:
    from torch import Tensor

FILES = ("weights.pt", "ema.pt")  # as trained, and their average, which is evaluated


def files_of(result: Record | None) -> dict[str, str]:
    """The checksums of the files of weights that a result names."""
    files = result["checkpoint"]["files"] if result else {}
    return {name: str(files[name]["sha256"]) for name in FILES if name in files}


def contents_of(store: Store, trial: str, result: Record | None) -> dict[str, str]:
    """The checksum of the tensors in each of these files, whatever order they are in.

    Files that are not of tensors are left out. Raises EnvironmentProblem for one that is missing,
    was removed by a sweep's `keep`, or is damaged.
    """
    found = {}
    for name, promised in files_of(result).items():
        assert result is not None
        key = f"trials/{trial}/checkpoints/{result['checkpoint']['name']}/{name}"
        try:
            data = store.get(key)
        except KeyError:
            if gone := why_gone(store, result):
                said = (
                    f"The final weights of trial {trial} were {gone}: only their checksums are left"
                )
                raise EnvironmentProblem(said) from None
            raise EnvironmentProblem(f"{key} is missing: the store is damaged there.") from None
        if hashlib.sha256(data).hexdigest() != promised:
            raise EnvironmentProblem(f"{key} does not have the checksum that its result names.")
        if (tensors := _tensors(data)) is not None:
            found[name] = _digest(tensors)
    return found


def _tensors(data: bytes) -> dict[str, Any] | None:
    if not data.startswith(b"PK"):  # torch takes seconds to import
        return None
    import torch

    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError):
        return None
    is_right = isinstance(loaded, dict) and all(map(torch.is_tensor, loaded.values()))
    return dict(loaded) if is_right else None


def _digest(tensors: dict[str, Tensor]) -> str:
    """Over names, types, shapes and bytes."""
    import torch

    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
