"""State-dict keys: published ones to ours, and the backbone and the norm that keys belong to."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from trainers.catalog import BACKBONES, NORMS
from trainers.norms.base import Norm

# Whatever wraps a network puts its own name before every key: DataParallel, torch.compile,
# Lightning, GAN trainers.
PREFIXES = ("module.", "_orig_mod.", "net_g.", "generator.", "model.", "network.", "net.")
DISCRIMINATORS = ("net_d.", "discriminator.")
BUFFERS = re.compile(r"(^|\.)(attn_mask|relative_position_index(_SA|_OCA)?|mean)$")
RENAMED = {"gamma": "weight", "beta": "bias"}  # of the published i-LN
BLOCK_NORM = re.compile(r"(?:^|\.)norm[12](?:\.body)?\.(\w+)$")  # Restormer's norms have a body
USUAL_NORMS = {frozenset({"weight", "bias"}): "layer_norm", frozenset(RENAMED): "i_ln"}
AMBIGUOUS = ({"weight", "bias"}, {"weight"})  # tensors that several norms have


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters under our keys.

    Buffers that we compute, discriminators and PREFIXES are dropped; gamma and beta of i-LN are
    renamed.
    """
    bare = {key: value for key, value in state.items() if not is_buffer(key)}
    bare = {key: value for key, value in bare.items() if not key.startswith(DISCRIMINATORS)} or bare
    while prefix := next(
        (p for p in PREFIXES if bare and all(key.startswith(p) for key in bare)), None
    ):
        bare = {key.removeprefix(prefix): value for key, value in bare.items()}
    ours = {}
    for key, value in bare.items():
        path, _, last = key.rpartition(".")
        # LayerScale has a gamma too, beside its weight.
        renamed = "norm" in path and last in RENAMED and f"{path}.weight" not in bare
        ours[f"{path}.{RENAMED[last]}" if renamed else key] = value
    return ours


def is_buffer(key: str) -> bool:
    """Whether published files hold a buffer under this key, which we compute."""
    return BUFFERS.search(key) is not None


def block_norm_names(keys: Collection[Any]) -> set[str]:
    """The last parts of the keys of norms in blocks, e.g. weight and bias."""
    return {found[1] for key in keys if isinstance(key, str) and (found := BLOCK_NORM.search(key))}


def is_of_published_i_ln(keys: Collection[Any]) -> bool:
    """Whether the norms in blocks have the tensors of the published i-LN, under its names."""
    return block_norm_names(keys) == set(RENAMED)


def is_of_several_norms(keys: Collection[Any]) -> bool:
    """Whether several of our norms have these keys."""
    return block_norm_names(keys) in AMBIGUOUS


def usual_norm(keys: Collection[Any]) -> str | None:
    """The norm of a published file with these keys, or None if no published norm has such keys."""
    backbone = backbone_of([key for key in keys if isinstance(key, str)])
    shape = BACKBONES[backbone].shape if backbone else None
    usual = {**USUAL_NORMS, **(shape.published_norms if shape else {})}
    return usual.get(frozenset(block_norm_names(keys)))


def backbone_of(keys: Collection[str]) -> str | None:
    """The catalogue's name of the backbone whose keys these are, or None."""
    return next(
        (entry.name for entry in BACKBONES if entry.shape and entry.shape.has_keys(keys)), None
    )


def norm_of(network: nn.Module) -> str | None:
    """The catalogue's name of the norm in the network's blocks.

    `package.module:Class` for a norm that is not in the catalogue, None without norms.
    """
    for name, module in network.named_modules():
        if isinstance(module, Norm) and BLOCK_NORM.search(f"{name}.weight"):
            target = f"{type(module).__module__}:{type(module).__qualname__}"
            return next((entry.name for entry in NORMS if entry.target == target), target)
    return None
