"""What claims are judged by: a sweep's plan and its frame, and what is computed from it once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.plan.axes import COMPARED, NAME_ORDER
from orchestrator.plan.expand import Plan, Trial
from orchestrator.plan.gpus import Gpus, of_this_machine
from orchestrator.plan.match import label_of
from orchestrator.plan.on_gpus import placed
from orchestrator.plan.states import State
from orchestrator.report import contrasts
from orchestrator.report.claims.lines import Claim
from orchestrator.report.comparable import Final, differing, facts_of
from orchestrator.report.contrasts import Contrast, Place
from orchestrator.report.frame import Frame, in_words
from orchestrator.report.growths import (
    NormGrowth,
    NormTrend,
    growths,
    trained_apart,
    trends,
)
from orchestrator.report.pairs import index_of
from trainers.catalog import BACKBONES, NORMS, TASKS, Catalog
from trainers.choice import Choice

Labels = Mapping[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """Trials of one norm at one place, which differ in their seed alone.

    `labels` are the values of all axes but the repetitions.
    """

    labels: Labels
    trials: tuple[Trial, ...]

    @property
    def norm(self) -> str:
        return str(self.labels[COMPARED])


@dataclass(frozen=True)
class Material:
    """A sweep and its numbers."""

    plan: Plan
    frame: Frame
    _contrasts: dict[tuple[int, str, str], Contrast] = field(default_factory=dict, repr=False)

    @cached_property
    def growths(self) -> tuple[NormGrowth, ...]:
        return growths(self.frame)

    @cached_property
    def trends(self) -> tuple[NormTrend, ...]:
        return trends(self.frame, self.growths)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return contrasts.places(self.frame)

    def contrast(self, place: Place, candidate: str, reference: str) -> Contrast:
        key = (id(place), candidate, reference)  # `places` keeps each of them alive
        if key not in self._contrasts:
            self._contrasts[key] = contrasts.contrast(self.frame, place, candidate, reference)
        return self._contrasts[key]

    def final(self, trial: Trial, place: Place) -> Final | str:
        """A trial's final scores at a place, or why it has none."""
        return index_of(self.frame).final(self.rows[trial.id], place)

    @cached_property
    def rows(self) -> dict[str, Mapping[str, Any]]:
        """The row of each trial in the frame, by id."""
        return {row["trial"]: row for row in self.frame.rows}

    def state(self, trial: Trial) -> State:
        return State(self.rows[trial.id]["state"])

    def state_in_words(self, trial: Trial) -> str:
        return in_words(self.rows[trial.id])

    @cached_property
    def estimated(self) -> dict[str, Trial]:
        """The trials, by id, with costs on the GPUs that trials had, else on this machine's."""
        specs = (spec for tried in self.frame.recorded.values() for spec in tried)
        had = any(spec.placement.gpus for spec in specs)
        gpus = Gpus(1, "trials had GPUs") if had else of_this_machine()
        return {trial.id: trial for trial in placed(self.plan, gpus, among=frozenset()).trials}

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of the sweep, in file order."""
        found: dict[Key, list[Trial]] = {}
        for trial in self.plan.trials:
            found.setdefault(self._key(trial.axes), []).append(trial)
        kept = [axis.name for axis in self.plan.axes if axis.role != "repeat"]
        return tuple(
            Cell({name: trials[0].axes.get(name) for name in kept}, tuple(trials))
            for trials in found.values()
        )

    def cells_of(self, claim: Claim, norm: Choice) -> tuple[Cell, ...]:
        """The cells of a norm at the places that the claim is about."""
        wanted = resolved(NORMS, norm)
        return tuple(
            cell
            for cell in self.cells
            if cell.trials[0].spec.model.norm == wanted and _is_about(claim, cell.trials[0])
        )

    def pairs(self, claim: Any) -> list[tuple[Cell, Cell]]:
        """Candidate and reference wherever the sweep has both, for a claim about two norms."""
        found = []
        for one in claim.candidate:
            for other in claim.reference:
                there = {
                    self._key(cell.labels, COMPARED): cell for cell in self.cells_of(claim, other)
                }
                for cell in self.cells_of(claim, one):
                    if (match := there.get(self._key(cell.labels, COMPARED))) is not None:
                        found.append((cell, match))
        return found

    def absent(self, claim: Claim) -> tuple[str, ...]:
        """The norms, tasks and backbones of a claim that this sweep does not have, as written."""
        firsts = [cell.trials[0] for cell in self.cells]
        norms = [
            label_of(norm)
            for norm in claim.norms_named
            if not any(trial.spec.model.norm == resolved(NORMS, norm) for trial in firsts)
        ]
        tasks = [
            f"task {label_of(task)}"
            for task in claim.tasks
            if not any(_is_task(task, trial.spec.task) for trial in firsts)
        ]
        backbones = [
            f"backbone {name}"
            for name in claim.backbones
            if not any(_is_backbone(name, trial) for trial in firsts)
        ]
        return (*norms, *tasks, *backbones)

    def growth_of(self, cell: Cell) -> NormGrowth:
        return self._growths_by_key[self._key(cell.labels)]

    def places_of(self, cell: Cell) -> list[Place]:
        """The places of scores that have a cell's labels, but for the norm."""
        return self._places_by_key.get(self._key(cell.labels, COMPARED), [])

    @cached_property
    def _growths_by_key(self) -> dict[Key, NormGrowth]:
        return {self._key(one.labels): one for one in self.growths}

    @cached_property
    def _places_by_key(self) -> dict[Key, list[Place]]:
        found: dict[Key, list[Place]] = {}
        for place in self.places:
            found.setdefault(self._key(place.labels, COMPARED), []).append(place)
        return found

    def _key(self, labels: Labels, *without: str) -> Key:
        """Labels as a key, without the repetitions. pandas makes NaN of a missing number."""
        values = (
            labels.get(axis.name)
            for axis in self.plan.axes
            if axis.role != "repeat" and axis.name not in without
        )
        return tuple(None if isinstance(v, float) and math.isnan(v) else v for v in values)

    def named(self, labels: Labels, *first: str) -> str:
        """`i_ln, sr_x2 w24 d2 swinir-tiny`: `first`, or the norm, and the place in brief."""
        axes = sorted(self.plan.axes, key=lambda axis: NAME_ORDER.index(axis.role))
        place = [
            axis.brief(labels[axis.name])
            for axis in axes
            if axis.role != "repeat" and axis.name != COMPARED and labels.get(axis.name) is not None
        ]
        return f"{', '.join(first or (str(labels[COMPARED]),))}, {' '.join(place)}"

    def apart(self, one: Trial, other: Trial) -> str:
        """What two trials were trained with differently, besides the norm; "" if nothing."""
        return differing(
            Final(one.id, {}, facts_of(self.frame, one.id)),
            Final(other.id, {}, facts_of(self.frame, other.id)),
            str(one.axes[COMPARED]),
            str(other.axes[COMPARED]),
        )

    def by_commit(self, cell: Cell) -> dict[str, str]:
        """The trials of a cell that another commit has trained than most, and a phrase for each."""
        return trained_apart(self.frame, [self.rows[trial.id] for trial in cell.trials])

    def values(self, metric: str) -> dict[tuple[str, int], float]:
        """A scalar's value by trial and step, at step 0 and at the trials' last ones."""
        ends = {trial.spec.training.steps for trial in self.plan.trials}
        rows = self.frame.ends.metric(metric)
        rows = rows[rows["step"].isin({0, *ends})]
        keys = zip(rows["trial"], rows["step"], strict=True)
        return {
            (str(trial), int(step)): float(value)
            for (trial, step), value in zip(keys, rows["value"], strict=True)
        }


def resolved(catalog: Catalog, choice: Choice) -> Choice:
    """The entry with all its knobs."""
    name, knobs = catalog.resolve(choice.name, choice.knobs)
    return Choice(name=name, knobs=knobs)


def _is_about(claim: Claim, trial: Trial) -> bool:
    tasks, backbones = claim.tasks, claim.backbones
    return (not tasks or any(_is_task(task, trial.spec.task) for task in tasks)) and (
        not backbones or any(_is_backbone(name, trial) for name in backbones)
    )


def _is_task(wanted: Choice, task: Choice) -> bool:
    """Whether a task is the one that is wanted; knobs that are not given may have any value."""
    preset = TASKS.presets.get(wanted.name)
    name, knobs = (preset.of, preset.knobs) if preset else (wanted.name, {})
    entry = TASKS[name]
    given = {
        knob: entry.knobs[knob].check(knob, v) for knob, v in {**knobs, **wanted.knobs}.items()
    }
    return name == task.name and given.items() <= task.knobs.items()


def _is_backbone(wanted: str, trial: Trial) -> bool:
    """Whether a trial has this backbone: that preset, or any size of that architecture."""
    if wanted in BACKBONES.entries:
        return trial.spec.model.backbone.name == wanted
    return str(trial.axes["backbone"]).partition("[")[0] == wanted


def seeds_of(cells: Sequence[Cell]) -> dict[int, tuple[Trial, ...]]:
    """The trials of several cells by seed, for the seeds that all of them have."""
    by_seed = [{trial.spec.training.seed: trial for trial in cell.trials} for cell in cells]
    shared = [seed for seed in by_seed[0] if all(seed in other for other in by_seed)]
    return {seed: tuple(one[seed] for one in by_seed) for seed in shared}
