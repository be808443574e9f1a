"""Which trials of a sweep keep their checkpoints: what was asked for is checked, and applied.

Trials compete within cells: those of one task, backbone, size and norm, or of all norms with
`across_norms`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from orchestrator.plan.keep import Keep
from orchestrator.plan.stopping import Report, group_of
from orchestrator.plan.trial import Trial
from trainers.catalog import METRICS
from trainers.errors import did_you_mean


@dataclass(frozen=True)
class KeepPlan:
    """A sweep's retention. `cells` has the label of each trial's cell, by trial id, in the file's
    order; `metrics` the name of what the trial is judged by.
    """

    asked: Keep
    cells: Mapping[str, str]
    metrics: Mapping[str, str]

    @cached_property
    def _members(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for trial, cell in self.cells.items():
            found.setdefault(cell, []).append(trial)
        return {cell: tuple(trials) for cell, trials in found.items()}

    def beside(self, trial: str) -> tuple[str, ...]:
        """The trials of a trial's cell."""
        return self._members[self.cells[trial]]

    def unwanted(self, scores: Mapping[str, float | None]) -> list[str]:
        """The ended trials whose checkpoints nobody needs, whatever the others will reach.

        `scores`: of the trials that have ended; NaN for those that diverged, None for those whose
        result lacks the metric, which stay. A trial goes once enough ended ones of its cell are
        ahead of it: those that have not ended can only push it further back. So an answer holds
        for good. Of equal ones the first in the file is ahead.
        """
        if (most := self.asked.best) is None:
            return []
        if not most:
            return [trial for trial in self.cells if trial in scores]
        ahead: Counter[str] = Counter()
        gone = set()
        ended = [(score, trial) for trial in self.cells if (score := scores.get(trial)) is not None]
        for score, trial in sorted(ended, key=lambda pair: _rank(pair[0])):
            cell = self.cells[trial]
            if math.isnan(score) or ahead[cell] >= most:
                gone.add(trial)
            else:
                ahead[cell] += 1
        return [trial for trial in self.cells if trial in gone]


def _rank(score: float) -> float:
    """Smaller is better; sorting is stable, so that equal ones keep the file's order."""
    return math.inf if math.isnan(score) else -score


def read_keep(
    keep: Keep | None, trials: Collection[Trial], report: Report
) -> tuple[KeepPlan | None, list[str]]:
    """The retention of a sweep and warnings about it; None if none is asked for."""
    if keep is None or not trials:
        return None, []
    problems = list(_problems(keep, trials))
    for field, message in problems:
        report(("keep", field), message)
    made = KeepPlan(
        keep,
        {trial.id: group_of(trial, across=keep.across_norms) for trial in trials},
        {
            trial.id: f"val/{trial.spec.observe.evaluate[0]}/{keep.metric}"
            for trial in trials
            if trial.spec.observe.evaluate
        },
    )
    return made, [] if problems else list(_warnings(made))


def _problems(keep: Keep, trials: Iterable[Trial]) -> Iterator[tuple[str, str]]:
    if keep.metric not in METRICS.names:
        known = ", ".join(METRICS.names)
        meant = did_you_mean(keep.metric, METRICS.names)
        yield "metric", f"unknown metric {keep.metric!r}.{meant} Known: {known}."
    if not keep.best:
        for field in ("metric", "across_norms"):
            if field in keep.model_fields_set:
                yield field, f"`checkpoints: {keep.checkpoints}` does not read it: leave it out"
        return
    without = [trial for trial in trials if not trial.spec.observe.evaluate]
    if without:
        yield (
            "checkpoints",
            f"{without[0].name} is evaluated on no set, so nothing says which trial is best: give "
            "its task an evaluation set (`data`), or write last or none",
        )


def _warnings(plan: KeepPlan) -> Iterator[str]:
    largest = max(Counter(plan.cells.values()).values())
    if plan.asked.best is not None and plan.asked.best >= largest:
        yield (
            "only diverged trials lose their checkpoint: there "
            f"{'are' if largest > 1 else 'is'} at most {largest} trial{'s' * (largest > 1)} of one "
            f"{_same(plan.asked)}."
        )


def _same(keep: Keep) -> str:
    """What the trials of a cell have in common."""
    return "task, backbone and size" if keep.across_norms else "task, backbone, size and norm"


def in_words(plan: KeepPlan) -> str:
    """What is kept, as `normsweep plan` says it."""
    keep = plan.asked
    if keep.best is None:
        return "Kept: the last checkpoint of every trial."
    if not keep.best:
        return (
            "Kept: no checkpoint of a trial that is done or has diverged. Results, journals and "
            "scores stay."
        )
    cells = len(set(plan.cells.values()))
    which = "best trial" if keep.best == 1 else f"{keep.best} best trials"
    return (
        f"Kept: the last checkpoint of the {which} of each {_same(keep)} "
        f"({cells} cell{'s' * (cells != 1)}), by final {keep.metric} on the first evaluation set."
    )
