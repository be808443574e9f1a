"""The places of a plan, where its norms are compared, and what seeds cost there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.plan.axes import AXES, COMPARED
from orchestrator.plan.besides import reference_norm
from orchestrator.plan.expand import Plan, Trial
from orchestrator.report.frame import size_label
from orchestrator.report.power.stored import norm_key


@dataclass(frozen=True)
class Cell:
    """The trials that differ in norm and seed alone, by norm. `labels` are their other axes'."""

    labels: Mapping[str, Any]
    norms: Mapping[str, tuple[Trial, ...]]
    baseline: str

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(trial for its in self.norms.values() for trial in its)

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for trial in self.trials for s in trial.spec.observe.evaluate))

    @property
    def size(self) -> str:
        return size_label(tuple(AXES.values()), self.labels)

    @cached_property
    def apart_from_size(self) -> str:
        """Equal for the cells whose differences moderate each other's variance."""
        kept = [f"{k} {v}" for k, v in self.labels.items() if AXES[k].role != "size"]
        return ", ".join(kept)

    @cached_property
    def candidates(self) -> Mapping[str, str]:
        """The norms that are compared with the baseline, each with its key."""
        return {
            norm: norm_key(its[0].spec.model)
            for norm, its in self.norms.items()
            if norm != self.baseline
        }

    @property
    def num_seeds(self) -> int:
        """The number of seeds that the plan has here, of the norm with the most."""
        return max(len(its) for its in self.norms.values())

    def why_none(self) -> str:
        """Why there is no difference to find here; "" if there is one."""
        if self.baseline not in self.norms:
            return f"{self.baseline} is not trained here: there is nothing to compare with"
        return "" if self.candidates else "one norm: there is nothing to compare it with"


@dataclass(frozen=True)
class Cost:
    """The trials that are still to be trained for so many seeds, and their time.

    `seconds` is one after the other. Trials on GPUs count for `gpu_hours`, others for `core_hours`.
    """

    seeds: int
    trials: int
    seconds: float
    gpu_hours: float
    core_hours: float


def baseline_of(plan: Plan) -> str:
    """The norm that others are compared with, by the rule of the report."""
    norms = [str(trial.axes[COMPARED]) for trial in plan.trials]
    return reference_norm(norms)


def cells_of(plan: Plan) -> list[Cell]:
    """The cells of a plan, in file order."""
    baseline = baseline_of(plan)
    found: dict[str, tuple[dict[str, Any], dict[str, list[Trial]]]] = {}
    for trial in plan.trials:
        labels = {
            name: label
            for name, label in trial.axes.items()
            if name != COMPARED and AXES[name].role != "repeat"
        }
        _, norms = found.setdefault(str(labels), (labels, {}))
        norms.setdefault(str(trial.axes[COMPARED]), []).append(trial)
    return [
        Cell(labels, {norm: tuple(its) for norm, its in norms.items()}, baseline)
        for labels, norms in found.values()
    ]


def other_cells(cell: Cell, cells: Sequence[Cell]) -> int:
    """The differences from the baseline that moderate the variance of one of `cell`'s."""
    alike = [
        other
        for other in cells
        if other.apart_from_size == cell.apart_from_size and other.baseline in other.norms
    ]
    return sum(len(other.candidates) for other in alike) - 1


def cost_of_seeds(cell: Cell, seeds: int, ended: Collection[str]) -> Cost:
    """The cost of so many seeds of every norm, apart from trials that have ended.

    A trial that has begun counts in full.
    """
    trials, seconds, gpu_hours, core_hours = 0, 0.0, 0.0, 0.0
    for its in cell.norms.values():
        number = max(0, seeds - sum(trial.id in ended for trial in its))
        placement, each = its[0].spec.placement, its[0].seconds
        trials += number
        seconds += number * each
        hours = number * each * placement.workers / 3600
        gpu_hours += hours * placement.gpus
        core_hours += hours * placement.cpus_per_worker if not placement.gpus else 0.0
    return Cost(seeds, trials, seconds, gpu_hours, core_hours)


def total(costs: Sequence[Cost]) -> Cost:
    """The cost of all cells; the seeds are those of the cell with the most."""
    return Cost(
        max((cost.seeds for cost in costs), default=0),
        sum(cost.trials for cost in costs),
        sum(cost.seconds for cost in costs),
        sum(cost.gpu_hours for cost in costs),
        sum(cost.core_hours for cost in costs),
    )
