"""Adam's state in a plain layout: whole tensors by parameter, from any ZeRO stage and world size.

DeepSpeed's own files fit only the stage and world size that wrote them. At stages 1 to 3 rank 0
therefore adds MOMENTS:

    exp_avg/<parameter>, exp_avg_sq/<parameter>      float32, in the parameter's shape
    metadata: {"about": {"adam_steps", "sound", "loss_scale"}}

At stage 0 DeepSpeed's file holds the same unsharded, and is read instead. Weights need no such
file: training keeps them in float32, so `weights.pt` has every bit of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trainers.checkpoint import MOMENTS

UNSHARDED = "mp_rank_00_model_states.pt"  # DeepSpeed's, at stage 0
KINDS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Piece:
    """The part of a parameter that this rank steps.

    It is the `count` numbers from `start` on in the parameter, and those from `at` on in `holder`,
    both flattened. `holder` is what the optimiser steps: the parameter itself, or ZeRO's flat
    partition of all parameters.
    """

    holder: Tensor
    at: int
    start: int
    count: int


@dataclass(frozen=True)
class Moments:
    """Adam's state, and what else decides how training goes on."""

    tensors: Mapping[str, Tensor]  # by `kind/parameter`; empty before the first step
    adam_steps: float  # without those that fp16 skipped
    sound: bool  # whether training may go on
    loss_scale: dict[str, Any] | None  # the state of fp16's scaler


def piece_of(parameter: nn.Parameter, zero: Any, stage: int) -> Piece | None:
    """Where the ZeRO optimiser `zero` of DeepSpeed 0.19.8 keeps this rank's part of a parameter.

    None if the rank has no part of it.
    """
    if stage == 0:
        return Piece(parameter, 0, 0, parameter.numel())
    if stage == 3:
        # Every rank's share has the same size, so that of the last ranks is partly or all padding.
        group, at, padded = zero.grad_position[zero.get_param_id(parameter)]
        start = torch.distributed.get_rank() * padded
        count = min(padded, parameter.ds_numel - start)  # type: ignore[attr-defined]
        return (
            Piece(zero.fp32_partitioned_groups_flat[group], at, start, count) if count > 0 else None
        )
    mapping = parameter._hp_mapping  # type: ignore[attr-defined]
    if mapping is None:
        return None
    ours, theirs = mapping.hp_fragment_address, mapping.lp_fragment_address
    return Piece(
        zero.single_partition_of_fp32_groups[mapping.param_group_index],
        ours.start,
        theirs.start,
        ours.numel,
    )


def gathered(
    parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer, zero: Any, stage: int
) -> tuple[dict[str, Tensor], float]:
    """The whole state on rank 0's CPU, and the steps that Adam has taken; every rank must call.

    One parameter at a time, so that no device holds more than one of them whole.
    """
    whole: dict[str, Tensor] = {}
    # DeepSpeed looks up states that do not exist, which leaves empty ones.
    states = [state for state in optimiser.state.values() if state]
    if not states:
        return {}, 0.0
    for name, parameter in parameters.items():
        piece = piece_of(parameter, zero, stage)
        shape = getattr(parameter, "ds_shape", parameter.shape)
        for kind in KINDS:
            flat = torch.zeros(shape.numel(), device=states[0][kind].device)
            if piece is not None:
                held = optimiser.state[piece.holder][kind].flatten()[
                    piece.at : piece.at + piece.count
                ]
                flat[piece.start : piece.start + piece.count] = held
            # A sum with zeros: exactly one rank has each number.
            torch.distributed.reduce(flat, dst=0)
            if torch.distributed.get_rank() == 0:
                whole[f"{kind}/{name}"] = flat.view(shape).to("cpu", copy=True)
    return whole, float(states[0]["step"])


def spread(
    moments: Moments,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    zero: Any,
    stage: int,
) -> None:
    """Give this rank its part of `moments`, as if its optimiser had taken the steps."""
    if not moments.tensors:
        return
    for name, parameter in parameters.items():
        piece = piece_of(parameter, zero, stage)
        if piece is None:
            continue
        state = optimiser.state[piece.holder]
        if not state:
            # On the CPU, where torch's Adam keeps it unless it is `capturable`.
            state["step"] = torch.tensor(moments.adam_steps, dtype=torch.float32)
            state.update({kind: torch.zeros_like(piece.holder) for kind in KINDS})
        for kind in KINDS:
            part = moments.tensors[f"{kind}/{name}"].flatten()[
                piece.start : piece.start + piece.count
            ]
            state[kind].view(-1)[piece.at : piece.at + piece.count].copy_(part)


def write_moments(path: Path, moments: Moments) -> None:
    about = {
        "adam_steps": moments.adam_steps,
        "sound": moments.sound,
        "loss_scale": moments.loss_scale,
    }
    save_file(dict(moments.tensors), path, metadata={"about": json.dumps(about)})


def read_moments(folder: Path, names: list[str]) -> Moments:
    """The state in a checkpoint that can be converted (`Checkpoint.start_of`).

    `names` are the network's parameters in order: DeepSpeed's file has only their numbers.
    """
    path = folder / MOMENTS
    if path.exists():
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            keys = file.keys()
            return Moments({key: file.get_tensor(key) for key in keys}, **about)
    saved = torch.load(folder / UNSHARDED, map_location="cpu", weights_only=True)
    state = saved["optimizer"]["state"]
    tensors = {
        f"{kind}/{name}": state[i][kind]
        for kind in KINDS
        for i, name in enumerate(names)
        if i in state
    }
    steps = float(state[0]["step"]) if state else 0.0
    return Moments(tensors, steps, bool(saved["sound"]), saved["loss_scale"])
