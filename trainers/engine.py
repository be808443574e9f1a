"""DeepSpeed, and nothing else of it anywhere: initialise, step, gather weights, save, load.

Weights and optimiser state stay in float32; `bf16` and `fp16` are DeepSpeed's torch_autocast. The optimiser is torch's
Adam at every ZeRO stage, so a stage changes where numbers lie and not what they are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers import checkpoint
from trainers.spec import BadSpec, RunSpec

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def _import_deepspeed() -> Any:
    """DeepSpeed without what costs seconds and serves nothing here.

    Its autotuner imports mlflow where installed (1 s, and a rank must not need it). On CPU it would compile a shared-memory
    operator at first use (30 s, needs g++); without it gloo is used, with the same sums for two ranks.
    """
    hidden = "mlflow" not in sys.modules
    if hidden:
        sys.modules["mlflow"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import deepspeed
            import deepspeed.ops
    finally:
        if hidden:
            del sys.modules["mlflow"]
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    _allow_what_checkpoints_hold()
    return deepspeed


def _allow_what_checkpoints_hold() -> None:
    """Make DeepSpeed load its checkpoints with weights_only, which it does not do by itself (0.19.8)."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch.serialization.add_safe_globals([ZeroStageEnum, LossScaler, DynamicLossScaler, fragment_address])


def choose_device(spec: RunSpec, local_rank: int, visible: int | None = None) -> torch.device:
    """The device of this rank, of the `visible` CUDA devices; default: those that torch sees.

    A worker whose placement says that it has no GPU trains on the CPU, whatever the machine has. `auto` takes CUDA where torch
    sees any. Raises BadSpec where the rank would need a GPU that it does not see.
    """
    placement = spec.placement
    if placement.device == "cpu" or (placement.device == "auto" and placement.gpus_per_worker == 0):
        return torch.device("cpu")
    if visible is None:
        visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if visible == 0 and placement.device == "auto":
        return torch.device("cpu")
    if local_rank >= visible:
        built = "" if torch.version.cuda else f" (torch {torch.__version__} is built without CUDA)"
        raise BadSpec(
            f"placement.device is {placement.device}, but local rank {local_rank} sees {visible} CUDA devices{built}: "
            "each rank needs a GPU; start fewer, or set placement.device to cpu"
        )
    return torch.device("cuda", local_rank)


def _join_by_inherited_socket(backend: str) -> None:
    """Rank 0 of a gang: the rendezvous on the socket that its host listens on; the others find it by env://."""
    listening = os.environ.pop("NORMSWEEP_LISTEN_FD", None)
    if listening is None:
        return
    world_size = int(os.environ["WORLD_SIZE"])
    store = torch.distributed.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size,
        is_master=True,
        wait_for_workers=True,
        master_listen_fd=int(listening),
    )
    # env:// puts the same prefix before the keys of the other ranks.
    prefixed = torch.distributed.PrefixStore("default_pg", store)
    torch.distributed.init_process_group(backend, store=prefixed, rank=0, world_size=world_size)


class Engine:
    """One rank's part of the training of `model`.

    Joins the process group named by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT (a group of one without them), and
    takes the model over: afterwards `module` is it.
    """

    def __init__(self, model: nn.Module, spec: RunSpec, device: torch.device) -> None:
        os.environ["DS_ACCELERATOR"] = device.type
        deepspeed = _import_deepspeed()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        _join_by_inherited_socket("nccl" if device.type == "cuda" else "gloo")
        if not torch.distributed.is_initialized():
            deepspeed.init_distributed(
                "nccl" if device.type == "cuda" else "gloo", auto_mpi_discovery=False, verbose=False
            )
        self.device = device
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()
        self.zero_stage = spec.placement.zero_stage
        self._autocast = AUTOCAST.get(spec.training.precision)
        self._gathered = deepspeed.zero.GatheredParameters
        training = spec.training
        optimiser = torch.optim.Adam(
            model.parameters(), lr=training.lr, betas=training.betas, weight_decay=training.weight_decay
        )
        config: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": spec.micro_batch,
            "gradient_accumulation_steps": spec.accumulation,
            "zero_optimization": {"stage": self.zero_stage},
            "steps_per_print": sys.maxsize,
        }
        if self._autocast is not None:
            config["torch_autocast"] = {"enabled": True, "dtype": str(self._autocast).removeprefix("torch.")}
        self._engine = deepspeed.initialize(model=model.to(device), optimizer=optimiser, config=config)[0]
        kept = self.module.state_dict().keys()  # other buffers are constants, the same everywhere
        self._buffers = [buffer for name, buffer in self.module.named_buffers() if name in kept]

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self._engine.module
        return module

    def set_lr(self, lr: float) -> None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of a training step, for a forward pass outside of one."""
        return torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None)

    def forward(self, lq: Tensor) -> Tensor:
        output: Tensor = self._engine(lq)
        return output

    def backward_and_step(self, loss: Tensor) -> None:
        """Backward of one micro-batch; DeepSpeed steps the optimiser after the last one of a step."""
        self._engine.backward(loss)
        self._engine.step()

    def mean_over_ranks(self, values: Sequence[float]) -> list[float]:
        """The means of a few numbers over the ranks, the same bits on each."""
        if self.world_size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(shared)
        return (shared / self.world_size).tolist()

    def average_buffers(self) -> None:
        """Make running statistics the means over ranks, which each have seen their own slices; the same bits on each."""
        if self.world_size == 1 or not self._buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in self._buffers])
        torch.distributed.all_reduce(flat)
        for buffer, mean in zip(
            self._buffers, flat.div_(self.world_size).split([b.numel() for b in self._buffers]), strict=True
        ):
            buffer.copy_(mean.view_as(buffer))

    def gather_objects(self, item: Any) -> list[Any]:
        """Every rank's item, in rank order."""
        if self.world_size == 1:
            return [item]
        items: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(items, item)
        return items

    def barrier(self) -> None:
        if self.world_size > 1:
            torch.distributed.barrier()

    @contextlib.contextmanager
    def full_state(self) -> Iterator[dict[str, Tensor]]:
        """The module's state dict, whole, whatever the ZeRO stage; every rank must enter. Views: clone to keep."""
        gather = self._gathered(list(self.module.parameters())) if self.zero_stage == 3 else contextlib.nullcontext()
        with torch.no_grad(), gather:
            yield self.module.state_dict()

    def save(self, checkpoints: Path, step: int, ema: dict[str, Tensor]) -> str:
        """Write and seal this rank's part of the checkpoint of `step`; every rank must call. Returns the folder's name.

        Rank 0 adds `weights.pt` and `ema.pt`: plain float32 tensors by name, for whoever needs only the network.
        """
        name = checkpoint.folder_name(step)
        folder = checkpoints / name
        folder.mkdir(parents=True, exist_ok=True)
        self._engine.save_checkpoint(str(checkpoints), tag=name, save_latest=False, client_state={"step": step})
        with self.full_state() as state:
            if self.rank == 0:
                kept = {key: value.detach().to("cpu", torch.float32).clone() for key, value in state.items()}
                torch.save(kept, folder / "weights.pt")
                torch.save({key: value.to("cpu") for key, value in ema.items()}, folder / "ema.pt")
        checkpoint.seal(
            folder,
            rank=self.rank,
            step=step,
            world_size=self.world_size,
            zero_stage=self.zero_stage,
            files=self._files_of_this_rank(folder),
        )
        self.barrier()
        return name

    def _files_of_this_rank(self, folder: Path) -> list[Path]:
        """What was written by this rank: ranks may share the folder, and ZeRO names its files by rank."""
        shared_by_rank_0 = {"weights.pt", "ema.pt", "mp_rank_00_model_states.pt"}
        mine = f"zero_pp_rank_{self.rank}_"
        return [
            path
            for path in folder.iterdir()
            if path.name.startswith(mine) or (self.rank == 0 and path.name in shared_by_rank_0)
        ]

    def can_load(self, found: checkpoint.Checkpoint) -> bool:
        """Whether this gang can continue it: ZeRO shards fit only the world size and stage that wrote them."""
        sharded = max(found.zero_stage, self.zero_stage) > 0
        return not sharded or (found.world_size, found.zero_stage) == (self.world_size, self.zero_stage)

    def load(self, found: checkpoint.Checkpoint) -> dict[str, Tensor]:
        """Continue from an intact checkpoint; every rank must call. Returns its EMA."""
        self._engine.load_checkpoint(str(found.folder.parent), tag=found.folder.name)
        ema: dict[str, Tensor] = torch.load(found.folder / "ema.pt", map_location=self.device, weights_only=True)
        return ema

    def close(self) -> None:
        self._engine.destroy()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
