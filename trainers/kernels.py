"""Which of its kernels torch may take: TF32 only where it is asked for, and the same bits twice where there is a choice.

docs/decisions/0009 says, operation by operation, for which of them that holds on CUDA.
"""

from __future__ import annotations

import os

import torch

CUBLAS_WORKSPACE = ":4096:8"  # without one of its fixed workspaces cuBLAS may sum in another order on another stream


def choose_kernels(device: torch.device, *, tf32: bool = False) -> None:
    """Set torch's global switches for this process; call it before the first operation on `device`.

    torch allows TF32 in cuDNN's convolutions by default, also where a network is float32 throughout.
    """
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.backends.cudnn.benchmark = False  # it would choose by a race, anew in every process
    torch.backends.cudnn.deterministic = True
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True, warn_only=True)
