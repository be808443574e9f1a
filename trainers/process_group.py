"""The process group of a trial's ranks: how they join it, and how long they wait for each other."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed import distributed_c10d

# In rank 0's environment: a socket that listens on MASTER_PORT already, so that no one else can
# take the port in the meantime.
LISTEN_FD = "NORMSWEEP_LISTEN_FD"
# Ranks wait while one of them decodes a data set or evaluates. A rank that dies needs no timeout:
# whoever started it notices.
PATIENCE = timedelta(days=2)


def join(device: torch.device) -> None:
    """Join the group that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT name.

    Without them it is a group of one.
    """
    if distributed.is_initialized():
        return
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=_store(rank, world_size),
        rank=rank,
        world_size=world_size,
        timeout=PATIENCE,
    )


def _store(rank: int, world_size: int) -> distributed_c10d.Store | None:
    """The store by which ranks find each other; None under torchrun, which serves one itself."""
    if world_size == 1:
        return distributed.HashStore()  # type: ignore[attr-defined] # needs no port
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True):
        return None
    listening = os.environ.pop(LISTEN_FD, None) if rank == 0 else None
    return distributed.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size,
        is_master=rank == 0,
        timeout=PATIENCE,
        master_listen_fd=None if listening is None else int(listening),
    )


def be_patient() -> None:
    """Set the timeout of all groups of this process to PATIENCE.

    Those that DeepSpeed makes have torch's default: 10 minutes with NCCL, otherwise 30.
    """
    for group in list(distributed_c10d._world.pg_map):
        if distributed.get_rank(group) >= 0:
            distributed_c10d._set_pg_timeout(PATIENCE, group)
