"""A plan of too many trials to list, in groups: what a group costs, and what is left of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.plan.axes import NAME_ORDER, Axis
from orchestrator.plan.trial import Trial

MOST_ROWS = 40  # groups in the table
MOST_VALUES = 12  # values of an axis that are named
GROUPED = ("backbone", "task", "width", "depth")  # what the cost of a trial depends on most


@dataclass
class Group:
    """Trials of one network (but its norm) on one task."""

    labels: tuple[Any, ...]
    trials: int = 0
    to_run: int = 0
    parameters: set[int] = field(default_factory=set)
    memory_bytes: int = 0  # of the largest worker
    seconds: float = 0.0  # of all that are to run


def grouped(trials: Iterable[Trial], left: Iterable[Trial]) -> list[Group]:
    """The groups of these trials, those first that take longest; `left`: those that are to run."""
    to_run = {trial.id for trial in left}
    groups: dict[tuple[Any, ...], Group] = {}
    for trial in trials:
        labels = tuple([trial.axes[name] for name in GROUPED])
        if (group := groups.get(labels)) is None:
            group = groups[labels] = Group(labels)
        cost = trial.cost
        group.trials += 1
        group.parameters.add(cost.parameters)
        group.memory_bytes = max(group.memory_bytes, cost.memory_bytes)
        if trial.id in to_run:
            group.to_run += 1
            group.seconds += cost.seconds
    return sorted(groups.values(), key=lambda group: group.seconds, reverse=True)


def axes_in_words(axes: Sequence[Axis], trials: Iterable[Trial]) -> list[str]:
    """A line for each axis with several values: what they are, and how many trials each has."""
    counted = Counter[tuple[str, Any]]()
    for trial in trials:
        counted.update(trial.axes.items())
    lines = []
    for axis in sorted(axes, key=lambda axis: NAME_ORDER.index(axis.role)):
        values = {label: number for (name, label), number in counted.items() if name == axis.name}
        if len(values) < 2:
            continue
        numbers = set(values.values())
        named = list(values)[:MOST_VALUES]
        each = f", {numbers.pop():,} trials each" if len(numbers) == 1 else ""
        words = ", ".join(f"{one}" if each else f"{one} ({values[one]:,})" for one in named)
        more = f" and {len(values) - len(named):,} more" if len(values) > len(named) else ""
        lines.append(f"{axis.name}: {words}{more}{each}")
    return lines
