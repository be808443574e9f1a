"""What the worker that hosts a rank reports about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.run.pulse import Pulse
from orchestrator.run.shipping import Shipped
from trainers.spec import PlacementSpec


@dataclass(frozen=True)
class Report:
    """One worker's report of what is new since its last one."""

    exit_code: int | None
    checkpoints: tuple[Shipped, ...] = ()
    step: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    device: str | None = None  # the rank's, once its journal says that it has started
    result: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None
    log_tail: str = ""
    points: tuple[tuple[int, float], ...] = ()  # step and value of the metric that is watched
    pulse: Pulse | None = None  # while the rank runs
    memory_kill: str = ""  # the evidence, if the kernel has killed it for memory
    full_disk: str = ""  # that of the run folder, if the rank had to end without a word

    @property
    def shown(self) -> dict[str, float]:
        """Those of the newest values that the live table shows."""
        psnr = {name: "psnr" for name in self.values if name.endswith("/psnr")}
        names = {"train/loss": "loss", **psnr}
        return {short: self.values[name] for name, short in names.items() if name in self.values}

    def about_device(self, placement: PlacementSpec) -> str:
        """A sentence if the rank has a GPU that its torch cannot use, and so trains on the CPU.

        Nobody should have to infer that from the time it takes.
        """
        if self.device != "cpu" or not placement.gpus or placement.device != "auto":
            return ""
        return (
            "Workers have GPUs, but the torch of their nodes sees no CUDA device: they train "
            "on the CPU. Install a build of torch with CUDA there, or say `gpus_per_worker: 0`."
        )
