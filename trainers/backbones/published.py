"""Checkpoints of the published SwinIR, HAT and DRCT: our keys, but for wrappers, buffers and the names in i-LN."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

WRAPPERS = ("params_ema", "params")  # the averaged weights are the ones that were evaluated
BUFFERS = re.compile(r"(^|\.)(attn_mask|relative_position_index(_SA|_OCA)?|mean)$")
RENAMED = {"gamma": "weight", "beta": "bias"}  # of the published i-LN
NAMED = 5  # keys in a message


class NotThisNetwork(ValueError):
    """A file that is no checkpoint, or one of another network; the message names what does not fit."""


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters under our keys: buffers that we compute are dropped, `module.` is, and i-LN's gamma and beta are renamed."""
    ours = {}
    for key, value in state.items():
        if BUFFERS.search(key):
            continue
        path, _, last = key.removeprefix("module.").rpartition(".")
        renamed = "norm" in path and last in RENAMED
        ours[f"{path}.{RENAMED[last]}" if renamed else f"{path}.{last}" if path else last] = value
    return ours


def read_published(path: Path) -> dict[str, Tensor]:
    """The network's state in a `.pth` or `.safetensors` file, read without running any code in it. Raises NotThisNetwork."""
    content: Any
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        raise NotThisNetwork(f"{path}: cannot be read as a checkpoint: {error}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise NotThisNetwork(f"{path}: holds no state dict, neither bare nor under {' or '.join(WRAPPERS)}")
    return network_state(content)


def load_published(network: nn.Module, path: Path) -> None:
    """Put a published checkpoint into `network`. Raises NotThisNetwork, and leaves the network as it was."""
    theirs, ours = read_published(path), network.state_dict()
    problems = [f"lacks {key}" for key in ours if key not in theirs]
    problems += [f"has {key}, which the network has not" for key in theirs if key not in ours]
    for key in ours.keys() & theirs.keys():
        if ours[key].numel() != theirs[key].numel() or (ours[key].ndim > 1 and ours[key].shape != theirs[key].shape):
            problems.append(f"{key} is {list(theirs[key].shape)}, not {list(ours[key].shape)}")
    if problems:
        more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise NotThisNetwork(f"{path} is not of this network: {'; '.join(sorted(problems)[:NAMED])}{more}")
    network.load_state_dict({key: value.reshape(ours[key].shape) for key, value in theirs.items()})
