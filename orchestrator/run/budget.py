"""`run --max-hours` and `--max-gpu-hours`: a run that ends in time, and says what is left.

A run whose budget is used up ends as after a signal: every trial that runs saves a checkpoint and
ends as interrupted, and the rest are pending. But nothing has gone wrong: the report is written,
and the exit code is 0 unless a trial failed. The same command continues, with a new budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from orchestrator.errors import UserError
from orchestrator.plan import Plan, Trial
from orchestrator.plan.on_gpus import waits_for_gpus
from orchestrator.run.options import RunOptions

HOUR_S = 3_600.0


class Budget:
    """What a run may use. GPU-hours are those of the GPUs that gangs hold, from their start."""

    def __init__(
        self,
        max_hours: float | None,
        max_gpu_hours: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The run begins now, by `clock`, which gives seconds."""
        self._max_hours = max_hours
        self._max_gpu_hours = max_gpu_hours
        self._clock = clock
        self._began = self._seen = clock()
        self._gpu_seconds = 0.0
        self.used_up = ""  # what is used up, in words

    @classmethod
    def of(cls, options: RunOptions) -> Budget:
        """The budget that the flags give. Raises UserError for one that is not a length of time."""
        for flag, hours in (
            ("--max-hours", options.max_hours),
            ("--max-gpu-hours", options.max_gpu_hours),
        ):
            if hours is not None and not (math.isfinite(hours) and hours > 0):
                raise UserError(f"{flag} {hours:g}: must be a number of hours above 0.")
        return cls(options.max_hours, options.max_gpu_hours)

    def refuse_without_gpus(self, plan: Plan, among: AbstractSet[str]) -> None:
        """Raise UserError for GPU-hours of trials none of which takes a GPU.

        Trials that wait for what the nodes have are asked again once that is known.
        """
        if self._max_gpu_hours is None or not among or waits_for_gpus(plan):
            return
        if not any(gpus_of(trial) for trial in plan.trials if trial.id in among):
            raise UserError(
                "--max-gpu-hours: no trial that is left takes a GPU, so none would ever be used "
                "up. --max-hours limits the time of the run."
            )

    def spend(self, gpus_held: float) -> None:
        """Count the time since the last call, in which this many GPUs were held by gangs."""
        now = self._clock()
        self._gpu_seconds += (now - self._seen) * gpus_held
        self._seen = now
        if self._max_hours is not None and now - self._began >= self._max_hours * HOUR_S:
            self.used_up = f"{self._max_hours:g} h"
        elif self._max_gpu_hours is not None and self._gpu_seconds >= self._max_gpu_hours * HOUR_S:
            self.used_up = f"{self._max_gpu_hours:g} GPU-hours"

    @property
    def gpu_hours(self) -> float:
        """What has been used so far."""
        return self._gpu_seconds / HOUR_S


def gpus_of(trial: Trial) -> float:
    """The GPUs that the trial's gang holds."""
    return trial.spec.placement.gpus * trial.spec.placement.workers
