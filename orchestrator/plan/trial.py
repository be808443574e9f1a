"""A trial of a plan: what it is, what is trained, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.axes import trial_name
from orchestrator.plan.cost import Cost
from orchestrator.plan.source import Location
from trainers.catalog import NORMS
from trainers.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Trial:
    """One cell of the grid. `axes` are labels for people, in file order; `spec` is what is trained.

    `gpus_at` is the place in the sweep file that gives its GPUs, `gpu_memory_gb` their memory if
    the file gives it.
    """

    id: str
    axes: Mapping[str, Any]
    spec: RunSpec
    cost: Cost
    gpus_at: Location = ("resources",)
    gpu_memory_gb: float | None = None

    @property
    def name(self) -> str:
        """E.g. `i_ln sr_x2 w24 d2 swinir-tiny s0`."""
        return trial_name(self.axes)

    @property
    def parameters(self) -> int:
        """Without those of a norm from outside, which training counts."""
        return self.cost.parameters

    @property
    def has_own_norm(self) -> bool:
        """Whether the norm is from outside, so that its parameters are not known."""
        return self.spec.model.norm.name not in NORMS.entries

    @property
    def memory_bytes(self) -> int:
        """Estimate, per worker."""
        return self.cost.memory_bytes

    @property
    def seconds(self) -> float:
        """Estimate, on the trial's own placement."""
        return self.cost.seconds
