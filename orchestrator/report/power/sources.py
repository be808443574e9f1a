"""The trials whose noise stands for that of a place: its own, or the nearest in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from orchestrator.plan.axes import COMPARED, axes_named
from orchestrator.plan.expand import Plan, Trial
from orchestrator.report.contrasts import Place, baseline, contrast
from orchestrator.report.frame import Frame, read_frame, size_label
from orchestrator.report.power.near import by_distance, in_words
from orchestrator.report.power.noise import Noise, mean_noise, noise_of
from orchestrator.report.power.places import Cell
from orchestrator.report.power.stored import (
    NO_TRIAL,
    ONE_SEED,
    Group,
    Scored,
    groups_of,
    named,
    norm_key,
    read_trials,
    scored_in,
)
from orchestrator.statistics.interval import Unknown
from orchestrator.store.base import Store

MOST_TRIED = 5  # groups that are read for a place before it is given up


@dataclass(frozen=True)
class Used:
    """A trial that a variance comes from; `sweep` is the one that trained it."""

    id: str
    name: str
    norm: str
    seed: int
    size: str
    parameters: int
    sweep: str


@dataclass(frozen=True)
class Source:
    """The trials for a place, and the noise of their differences from the norm `reference`.

    Norms are given by their keys. `how` is "" for the place's own trials, else what they differ in.
    `passed_over` says why nearer ones could not be used.
    """

    how: str
    trials: tuple[Used, ...]
    reference: str
    noises: Mapping[str, Noise]
    passed_over: tuple[str, ...] = ()

    def noise_of(self, norm: str, baseline: str) -> tuple[Noise, bool]:
        """The noise of a difference, and whether it is that pair's own or the mean of others'."""
        if norm in self.noises and baseline == self.reference:
            return self.noises[norm], True
        return mean_noise(list(self.noises.values())), False


class Sources:
    """Finds the source of each place of a plan; reads each trial of the store at most once."""

    def __init__(self, plan: Plan, store: Store, cells: Sequence[Cell]) -> None:
        self._plan = plan
        self._store = store
        self._cells = cells
        # Each of these is asked for again: by every set, and by every cell.
        self._frames: dict[tuple[str, ...], Frame] = {}
        self._by_distance: dict[str, list[Group]] = {}
        self._no_pair: dict[tuple[str, str], str] = {}

    @cached_property
    def scored(self) -> Scored:
        return scored_in(self._store)

    @cached_property
    def _own(self) -> Mapping[str, Group]:
        """The ended trials of each cell, by its labels."""
        ended = {
            str(cell.labels): tuple(trial for trial in cell.trials if trial.id in self.scored)
            for cell in self._cells
        }
        return {labels: Group(trials) for labels, trials in ended.items() if trials}

    @cached_property
    def _own_frame(self) -> Frame:
        """Of all cells at once, so that they moderate each other's variance."""
        usable = [
            group
            for group in self._own.values()
            if any(not group.why_no_pair(name, self.scored) for name in _sets_of(group))
        ]
        return self._read([trial for group in usable for trial in group.trials])

    @cached_property
    def _groups(self) -> list[Group]:
        """Every group of the store, whatever the sweep."""
        ours = {trial.id: named(trial.id, trial.spec) for trial in self._plan.trials}
        here = [ours[trial.id] for trial in self._plan.trials if trial.id in self.scored]
        others = [trial_id for trial_id in self.scored.evaluations if trial_id not in ours]
        return groups_of([*here, *read_trials(self._store, others)])

    def of(self, cell: Cell, benchmark: str, metric: str) -> Source | Unknown:
        """The source for a place, or why the store has none."""
        passed_over: list[str] = []
        own = self._own.get(str(cell.labels))
        if own is not None and not own.why_no_pair(benchmark, self.scored):
            found = _source(self._own_frame, own, (benchmark, metric), "")
            if not isinstance(found, Unknown):
                return found
            passed_over.append(f"its own trials: {found.reason}")
        reasons = []
        tried = 0
        for group in self._nearest(cell):
            if own is not None and _ids(group) <= _ids(own):
                continue
            if why := self._why_no_pair(group, benchmark):
                reasons.append(why)
                continue
            if tried == MOST_TRIED:
                break
            tried += 1
            how = in_words(cell.trials[0], group)
            found = _source(self._read(group.trials), group, (benchmark, metric), how)
            if not isinstance(found, Unknown):
                return replace(found, passed_over=tuple(passed_over))
            passed_over.append(f"{how}: {found.reason}")
        if own is not None:
            reasons.append(own.why_no_pair(benchmark, self.scored))
        return Unknown("; ".join(passed_over) or _foremost(reasons))

    def _nearest(self, cell: Cell) -> list[Group]:
        """The groups of the cell's task, nearest first."""
        key = str(cell.labels)
        if key not in self._by_distance:
            self._by_distance[key] = by_distance(cell.trials[0], self._groups)
        return self._by_distance[key]

    def _why_no_pair(self, group: Group, benchmark: str) -> str:
        key = group.trials[0].id, benchmark
        if key not in self._no_pair:
            self._no_pair[key] = group.why_no_pair(benchmark, self.scored)
        return self._no_pair[key]

    def _read(self, trials: Sequence[Trial]) -> Frame:
        ids = tuple(trial.id for trial in trials)
        if ids not in self._frames:
            self._frames[ids] = read_frame(replace(self._plan, trials=tuple(trials)), self._store)
        return self._frames[ids]


def _source(frame: Frame, group: Group, asked: tuple[str, str], how: str) -> Source | Unknown:
    """The noise of a group's differences, which `frame` has, on a set by a metric."""
    axes = group.trials[0].axes
    labels = {
        axis.name: axes.get(axis.name)
        for axis in frame.axes
        if axis.name != COMPARED and axis.role != "repeat"
    }
    place = Place(labels, size_label(frame.axes, axes), *asked)
    keys = {str(trial.axes[COMPARED]): norm_key(trial.spec.model) for trial in group.trials}
    first = baseline(frame)
    reasons: list[str] = []
    for reference in sorted(keys, key=lambda norm: norm != first):
        found: dict[str, Noise] = {}
        used: set[str] = set()
        for norm in keys:
            if norm != reference:
                one = contrast(frame, place, norm, reference)
                noise = noise_of(one)
                if isinstance(noise, Unknown):
                    reasons.append(f"{norm} and {reference}: {noise.reason}")
                else:
                    found[keys[norm]] = noise
                    used |= set(one.trials)
        if found:
            trials = tuple(_used(trial, frame) for trial in group.trials if trial.id in used)
            passed_over = () if how else tuple(reasons)  # another place's norms are not the plan's
            return Source(how, trials, keys[reference], found, passed_over)
    return Unknown("; ".join(dict.fromkeys(reasons)))


def _used(trial: Trial, frame: Frame) -> Used:
    result = frame.looks[trial.id].result
    return Used(
        trial.id,
        trial.name,
        str(trial.axes[COMPARED]),
        trial.spec.training.seed,
        size_label(axes_named(()), trial.axes),
        trial.parameters,
        result["sweep"] if result else "",
    )


def _ids(group: Group) -> set[str]:
    return {trial.id for trial in group.trials}


def _sets_of(group: Group) -> set[str]:
    return {name for trial in group.trials for name in trial.spec.observe.evaluate}


def _foremost(reasons: Sequence[str]) -> str:
    """The reason that comes nearest to a variance."""
    order = ["", NO_TRIAL, ONE_SEED]
    return max(
        [NO_TRIAL, *reasons],
        key=lambda reason: order.index(reason) if reason in order else len(order),
    )
