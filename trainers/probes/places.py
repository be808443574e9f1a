"""Where probes look: a network's residual blocks, and the network without what is around it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from trainers.autocast import Network
from trainers.norms.base import Norm
from trainers.probes.base import groups_of


@dataclass(frozen=True)
class ResidualBlock:
    """A residual block: `module` gives tokens (B, N, C), and each branch begins with a norm.

    `name` is `group_<i>/block_<j>`, counted from 0; `norms` are in the order of the branches.
    """

    name: str
    module: nn.Module
    norms: tuple[Norm, ...]


def bare(network: nn.Module) -> nn.Module:
    """The network without autocast around it: its modules have the names that its weights have."""
    return network.network if isinstance(network, Network) else network


def blocks_of(network: nn.Module) -> list[ResidualBlock]:
    """The residual blocks of all groups, in the order in which a group has registered them.

    A block is what holds norms. HAT's overlapping block is the last of its group.
    """
    blocks = []
    for number, group in enumerate(groups_of(network)):
        norms: dict[str, list[Norm]] = {}
        for name, module in group.named_modules():
            if isinstance(module, Norm):
                norms.setdefault(_holder(group, name), []).append(module)
        blocks += [
            ResidualBlock(f"group_{number}/block_{k}", group.get_submodule(holder), tuple(found))
            for k, (holder, found) in enumerate(norms.items())
        ]
    return blocks


def _holder(group: nn.Module, name: str) -> str:
    """The name of the block that holds the norm of this name.

    Published keys may put a norm in a Sequential of one (Restormer).
    """
    name = name.rpartition(".")[0]
    while name and isinstance(group.get_submodule(name), nn.Sequential):
        name = name.rpartition(".")[0]
    return name
