"""The only module that imports DeepSpeed: initialise, step, gather weights, save, load.

Weights and optimiser state stay in float32; `bf16` and `fp16` are torch's autocast around the
network (trainers.autocast). The optimiser is ours at every ZeRO stage (trainers.optimiser), so a
stage changes where numbers are kept and not what they are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

from trainers import checkpoint, process_group
from trainers.autocast import AUTOCAST, Network
from trainers.deepspeed_config import NotAsStated, deepspeed_config, differences
from trainers.moments import Moments, gathered, read_moments, spread, write_moments
from trainers.optimiser import Adam, after_overflow
from trainers.spec import BadSpec, RunSpec


def import_deepspeed() -> Any:
    """Import DeepSpeed without the parts that cost seconds and are of no use here.

    Its autotuner imports mlflow where that is installed (1 s, and a rank must not need it). The
    first question which of its operators this machine can compile runs gcc nine times (0.19.8), so
    the answer is given here: none, and none of ours is. One of them it would compile on a CPU at
    first use (30 s, needs g++); without that it uses gloo, which gives the same sums for two ranks.
    """
    hidden = "mlflow" not in sys.modules
    if hidden:
        sys.modules["mlflow"] = None  # type: ignore[assignment] # makes `import mlflow` fail
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import deepspeed
            import deepspeed.ops
    finally:
        if hidden:
            del sys.modules["mlflow"]
    deepspeed.ops.__compatible_ops__ = {}
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    _allow_what_checkpoints_hold()
    return deepspeed


def _allow_what_checkpoints_hold() -> None:
    """Make DeepSpeed load its checkpoints with `weights_only`, which 0.19.8 does not by itself."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch.serialization.add_safe_globals(
        [ZeroStageEnum, LossScaler, DynamicLossScaler, fragment_address]
    )


def choose_device(spec: RunSpec, local_rank: int, visible: int | None = None) -> torch.device:
    """The device of this rank. `visible` is the number of CUDA devices; default: what torch sees.

    A worker whose placement gives it no GPU trains on the CPU, whatever the machine has. `auto`
    takes CUDA where torch sees a device. Raises BadSpec where the rank needs a GPU that it does not
    see.
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
            f"placement.device is {placement.device}, but local rank {local_rank} sees {visible} "
            f"CUDA devices{built}. Each rank needs a GPU: start fewer ranks, or set "
            "placement.device to cpu."
        )
    return torch.device("cuda", local_rank)


class Engine:
    """One rank's part of the training of `model`.

    Joins the process group (trainers.process_group) and takes the model over. From then on `module`
    is the model, and `network` is the model in the precision of a training step. Raises NotAsStated
    where DeepSpeed would train with settings other than ours.
    """

    def __init__(self, model: nn.Module, spec: RunSpec, device: torch.device) -> None:
        os.environ["DS_ACCELERATOR"] = device.type  # read on import
        deepspeed = import_deepspeed()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        process_group.join(device)
        self.device = device
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()
        self.zero_stage = spec.placement.zero_stage
        # Whether DeepSpeed has skipped a step because its gradients were not finite. It stays False
        # in fp16, where such steps are normal.
        self.overflowed = False
        self._gathered = deepspeed.zero.GatheredParameters
        training = spec.training
        half = training.precision == "fp16"
        # DeepSpeed's own loss scaling does not work at every stage (trainers.optimiser).
        self._scaler = ShardedGradScaler(device.type) if half else None
        self._optimiser = Adam(
            model.parameters(),
            lr=training.lr,
            betas=training.betas,
            weight_decay=training.weight_decay,
            clip_norm=training.clip_grad_norm,
            sharded=self.zero_stage > 0,
            scaler=self._scaler,
        )
        self.network = Network(model.to(device), device, AUTOCAST.get(training.precision))
        config = deepspeed_config(spec)
        self._engine = deepspeed.initialize(
            model=self.network, optimizer=self._optimiser, config=config
        )[0]
        process_group.be_patient()  # in the groups that DeepSpeed has made
        if wrong := differences(config, self._engine._config):
            raise NotAsStated(f"DeepSpeed {deepspeed.__version__}: " + "; ".join(wrong))
        kept = self.module.state_dict().keys()  # other buffers are constants, the same everywhere
        self._buffers = [buffer for name, buffer in self.module.named_buffers() if name in kept]

    @property
    def module(self) -> nn.Module:
        return self.network.network

    @property
    def loss_scale(self) -> float:
        """The factor on losses before the backward pass in fp16; 1 in other precisions."""
        return 1.0 if self._scaler is None else self._scaler.get_scale()

    @property
    def grad_norm(self) -> float | None:
        """2-norm of the last step's gradients before clipping; None if the recipe does not clip."""
        norm = self._optimiser.grad_norm
        return None if norm is None else norm.item()

    def set_lr(self, lr: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = lr

    def forward(self, lq: Tensor, kept: Tensor | None = None) -> Tensor:
        """The network's output; `kept` are its drop-path factors (trainers.backbones.network)."""
        output: Tensor = self._engine(lq, kept)
        return output

    def backward_and_step(self, loss: Tensor) -> None:
        """Run one micro-batch backward; after a step's last one DeepSpeed steps the optimiser."""
        self._engine.backward(loss if self._scaler is None else self._scaler.scale(loss))
        ending = self._engine.is_gradient_accumulation_boundary()
        self._engine.step()
        # ZeRO 3 skips a step whose gradients are not finite, on all ranks, before the optimiser can
        # see them.
        if ending and getattr(self._engine.optimizer, "overflow", False):
            self._optimiser.overflowed()
            if self._scaler is None:
                self.overflowed = True
            else:
                after_overflow(self._scaler, self.device)

    def mean_over_ranks(self, values: Sequence[float]) -> list[float]:
        """The means of a few numbers over the ranks, the same bits on each."""
        if self.world_size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(shared)
        return (shared / self.world_size).tolist()

    def all_ranks(self, holds: bool) -> bool:
        """Whether something holds on every rank; each gets the same answer."""
        return self.mean_over_ranks([float(holds)]) == [1.0]

    def average_buffers(self) -> None:
        """Average running statistics over the ranks, each of which has seen only its own slices.

        All ranks end with the same bits.
        """
        if self.world_size == 1 or not self._buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in self._buffers])
        torch.distributed.all_reduce(flat)
        for buffer, mean in zip(
            self._buffers,
            flat.div_(self.world_size).split([b.numel() for b in self._buffers]),
            strict=True,
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
        """The module's whole state dict, at any ZeRO stage. Every rank must enter.

        Its tensors are views: clone one to keep it.
        """
        gather = (
            self._gathered(list(self.module.parameters()))
            if self.zero_stage == 3
            else contextlib.nullcontext()
        )
        with torch.no_grad(), gather:
            yield self.module.state_dict()

    @property
    def num_parameters(self) -> int:
        """Of the whole network, also where ranks hold a part of each."""
        return sum(getattr(one, "ds_numel", one.numel()) for one in self.module.parameters())

    @property
    def memory_gb(self) -> float:
        """The most that this rank has held so far, in 10^9 bytes.

        On a GPU that is what torch had allocated, on a CPU the resident memory of the process.
        """
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9

    def save(self, checkpoints: Path, step: int, ema: dict[str, Tensor], *, sound: bool) -> str:
        """Write and seal this rank's part of the checkpoint of `step`; return its folder's name.

        Every rank must call. `sound` says whether training may go on from here: a diverged trial
        must not, however it is continued.

        Rank 0 adds `weights.pt` and `ema.pt`, plain float32 tensors by name, for whoever needs only
        the network. Where the optimiser is sharded, it adds the optimiser's state as well, as
        trainers.moments describes it, for a gang of another layout.
        """
        name = checkpoint.folder_name(step)
        folder = checkpoints / name
        folder.mkdir(parents=True, exist_ok=True)
        scale = None if self._scaler is None else self._scaler.state_dict()  # DeepSpeed keeps none
        client_state = {"step": step, "sound": sound, "loss_scale": scale}
        self._engine.save_checkpoint(
            str(checkpoints), tag=name, save_latest=False, client_state=client_state
        )
        self._save_moments(folder, sound, scale)
        with self.full_state() as state:
            if self.rank == 0:
                kept = {
                    key: value.detach().to("cpu", torch.float32).clone()
                    for key, value in state.items()
                }
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
        self.barrier()  # when any rank goes on, the whole checkpoint is there
        return name

    def _save_moments(self, folder: Path, sound: bool, scale: dict[str, Any] | None) -> None:
        if self.zero_stage == 0:
            return  # DeepSpeed's file has them whole
        tensors, steps = gathered(
            self._stepped(), self._optimiser, self._engine.optimizer, self.zero_stage
        )
        if self.rank == 0:
            write_moments(folder / checkpoint.MOMENTS, Moments(tensors, steps, sound, scale))

    def _stepped(self) -> dict[str, nn.Parameter]:
        """The parameters that the optimiser steps, by name."""
        return {
            name: parameter
            for name, parameter in self.module.named_parameters()
            if parameter.requires_grad
        }

    def _files_of_this_rank(self, folder: Path) -> list[Path]:
        """The files in `folder`, which ranks may share, that this rank wrote."""
        written_by_rank_0 = {
            "weights.pt",
            "ema.pt",
            checkpoint.MOMENTS,
            "mp_rank_00_model_states.pt",
        }
        mine = f"zero_pp_rank_{self.rank}_"  # as ZeRO names them
        return [
            path
            for path in folder.iterdir()
            if path.name.startswith(mine) or (self.rank == 0 and path.name in written_by_rank_0)
        ]

    def load(
        self, found: checkpoint.Checkpoint, *, convert: bool
    ) -> tuple[dict[str, Tensor], bool]:
        """Continue from an intact checkpoint; return its EMA, and whether it was sound.

        Every rank must call. With `convert` the checkpoint is of another layout. The model then
        came with the checkpoint's weights, from which ZeRO has already made its partitions.
        """
        if convert:
            moments = read_moments(
                found.folder, [name for name, _ in self.module.named_parameters()]
            )
            spread(
                moments, self._stepped(), self._optimiser, self._engine.optimizer, self.zero_stage
            )
            sound, scale = moments.sound, moments.loss_scale
        else:
            _, client_state = self._engine.load_checkpoint(
                str(found.folder.parent), tag=found.folder.name
            )
            sound, scale = bool(client_state["sound"]), client_state["loss_scale"]
        if self._scaler is not None and scale:
            self._scaler.load_state_dict(scale)
        ema: dict[str, Tensor] = torch.load(
            found.folder / "ema.pt", map_location=self.device, weights_only=True
        )
        return ema, sound

    def close(self) -> None:
        self._engine.destroy()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
