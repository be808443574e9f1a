"""Chooses torch's kernels: TF32 only where asked for, and the same bits twice where possible.

docs/decisions/0009 says, operation by operation, what that means on CUDA.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Without fixed workspaces cuBLAS may sum in another order on another stream.
CUBLAS_WORKSPACE = ":4096:8"


def choose_kernels(device: torch.device) -> None:
    """Set torch's global switches for this process; call it before the first operation on `device`.

    From then on a CUDA operation without a deterministic kernel raises a RuntimeError that names
    the operation. None of ours does.
    """
    # By default torch allows it in cuDNN's convolutions, even in a network that is all float32.
    _allow_tf32(False)
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.backends.cudnn.benchmark = False  # it chooses by timing, anew in every process
    torch.backends.cudnn.deterministic = True
    # Strict mode would also fill uninitialised memory, which costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Not warn_only: attention's backward sums over keys in a fixed order only in strict mode.
    torch.use_deterministic_algorithms(True)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Inside, CUDA's matrix products and convolutions use TF32 if `allowed`; afterwards float32."""
    _allow_tf32(allowed)
    try:
        yield
    finally:
        _allow_tf32(False)


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
