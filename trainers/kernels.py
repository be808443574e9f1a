"""Which of its kernels torch may take: TF32 only where it is asked for, and the same bits twice where there is a choice.

docs/decisions/0009 says, operation by operation, what that means on CUDA.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS_WORKSPACE = (
    ":4096:8"  # without fixed workspaces cuBLAS may sum in another order on another stream
)


def choose_kernels(device: torch.device) -> None:
    """Set torch's global switches for this process; call it before the first operation on `device`.

    An operation on CUDA that has no deterministic kernel raises RuntimeError from here on, naming itself. None of ours does.
    """
    _allow_tf32(
        False
    )  # torch allows it in cuDNN's convolutions, also where a network is float32 throughout
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.backends.cudnn.benchmark = False  # it would choose by a race, anew in every process
    torch.backends.cudnn.deterministic = True
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Not warn_only: attention's backward sums its keys in a fixed order only where this is strict.
    torch.use_deterministic_algorithms(True)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Matrix products and convolutions on CUDA in TF32 within, where that is `allowed`; in float32 without and after it."""
    _allow_tf32(allowed)
    try:
        yield
    finally:
        _allow_tf32(False)


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
