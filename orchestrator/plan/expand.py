"""Expand a sweep file into trials: each point of the grid gets a spec, an id and a cost.

Points that are the same trial are folded into one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.collecting import no_collecting
from orchestrator.errors import UserError
from orchestrator.plan.axes import Axis, axes_named
from orchestrator.plan.cells import Cells, task_of
from orchestrator.plan.claims import Check, ClaimFile, read_claim_file
from orchestrator.plan.draft import Draft, read_draft
from orchestrator.plan.fit import sharing_problems
from orchestrator.plan.gate import Gate, GatePlan
from orchestrator.plan.gate_names import Baselines, GateReader, Norms, gate_warnings, resolved
from orchestrator.plan.grid import Grid
from orchestrator.plan.identity import why_missing
from orchestrator.plan.initial import Initial, InitialFinder, Starts
from orchestrator.plan.keeping import KeepPlan, read_keep
from orchestrator.plan.placement import Placements
from orchestrator.plan.point import Excluded, Point
from orchestrator.plan.sets import DataSets
from orchestrator.plan.source import Location, Problem, Source
from orchestrator.plan.stopping import StopPlan, read_stop
from orchestrator.plan.trial import Trial
from trainers import own
from trainers.catalog import PROBES
from trainers.choice import Choice
from trainers.data.lookup import find_set
from trainers.data.manifests import ImageSet

__all__ = ["Folded", "Plan", "Trial", "load_plan"]
MANY = 1_000  # trials


@dataclass(frozen=True)
class Folded:
    """A point of the grid that is the same trial as an earlier one."""

    axes: Mapping[str, Any]
    into: str


@dataclass(frozen=True)
class Plan:
    """A sweep, expanded, and the `source` that it was read from."""

    sweep: str
    source: Source
    trials: tuple[Trial, ...]
    excluded: tuple[Excluded, ...]
    folded: tuple[Folded, ...]
    initial: tuple[Initial, ...] = ()  # weights that trials start from
    warnings: tuple[str, ...] = ()
    claims: ClaimFile | None = None  # the user's own
    gate: GatePlan | None = None
    stop: StopPlan | None = None
    keep: KeepPlan | None = None
    # The checksum of each evaluation set's manifest, by name.
    evaluated: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def question(self) -> str:
        return self.source.question

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of its trials."""
        return axes_named(set[str]().union(*(trial.axes for trial in self.trials)))

    def trial(self, prefix: str) -> Trial | None:
        """The only trial whose id begins with `prefix`; None for no trial or several."""
        found = [trial for trial in self.trials if trial.id.startswith(prefix)]
        return found[0] if len(found) == 1 else None


def load_plan(
    path: Path,
    find: Callable[[str], ImageSet] = find_set,
    initial: InitialFinder | None = None,
    *,
    writes_baseline: bool = False,
    check_claims: Check | None = None,
) -> Plan:
    """Read and expand a sweep file.

    `find` returns a data set by its name, or raises DatasetProblem. `initial` finds weights to
    start from. With `writes_baseline` the file of its gate's baseline need not exist yet.
    `check_claims` is given the file of claims that the sweep names, or None, and raises UserError
    for what is wrong with claims. Raises UserError with all problems of the file and of claims,
    EnvironmentProblem if a gate needs torch's version and there is none.
    """

    def expansion(one: Path) -> _Expansion:
        own.look_in(one.parent, Path.cwd())
        return _Expansion(read_draft(one), find, initial)

    def norms_in(other: Path) -> list[Choice]:
        """The norms that another sweep trains. What its own gate compares does not matter here."""
        try:
            return [trial.spec.model.norm for trial in expansion(other).plan(None).trials]
        finally:
            own.look_in(path.parent, Path.cwd())

    with no_collecting():
        try:
            begun = expansion(path)
        except UserError as error:  # nothing can be made of the file, so it names no claims
            if of_claims := _claims_problems(check_claims, None):
                raise UserError("\n".join([str(error), *of_claims])) from error
            raise
        plan = begun.plan(Baselines(norms_in, writes_baseline), check_claims)
        if len(plan.trials) > MANY:
            gc.freeze()  # nor walk so many trials again and again for whoever works on them
        return plan


def _claims_problems(check: Check | None, named: ClaimFile | None) -> list[str]:
    """What is wrong with claims: a text with all of it, or nothing."""
    if check is not None:
        try:
            check(named)
        except UserError as error:
            return [str(error)]
    return []


class _Expansion:
    """One file on its way to trials; collects problems and raises them together."""

    def __init__(
        self, draft: Draft, find: Callable[[str], ImageSet], initial: InitialFinder | None
    ) -> None:
        self.source = draft.source
        self.sweep = draft.sweep
        self.name = draft.name
        self.doubts = draft.doubts
        self.problems = {(problem.location, problem.message): problem for problem in draft.problems}
        self.silent: set[Location] = set()
        self.grid = Grid(draft, self._problem, self.silent)
        self.find = find
        self.draft = draft
        self.placements = Placements(
            draft.sweep.resources, problem=self._problem, read_match=self.grid.rule
        )
        self.starts = Starts(
            draft.source, draft.sweep, initial, report=self._problem, read_match=self.grid.rule
        )

    def plan(self, baselines: Baselines | None, check_claims: Check | None = None) -> Plan:
        """The plan. Without `baselines` its gate is left out, but its trials are a gate's."""
        self.starts.read(self.name)
        for i, probe in enumerate(self.sweep.observe.probes):
            if why := why_missing(PROBES[probe]):
                self._problem(("observe", "probes", i), why)
        self.grid.check_size()
        kept, excluded = self.grid.points()
        of_task = {point.labels["task"]: point for point in kept}
        self.sets = DataSets(
            self.sweep.data,
            {label: task_of(point) for label, point in of_task.items()},
            self.find,
            self._problem,
            tasks_at={label: point.values["task"].location for label, point in of_task.items()},
            places=self.source.positions,
        )
        self.cells = Cells(
            self.draft,
            self._problem,
            sets=self.sets,
            starts=self.starts,
            placements=self.placements,
        )
        trials, folded = self._trials(kept)
        self.placements.finish()
        # Only where the file itself says how large a GPU is: no machine is known yet.
        for problem in sharing_problems(trials.values()):
            self._problem(problem.location, problem.message)
        warnings = (*self.starts.finish(), *self.sets.notes, *self.sets.remarks(self.source))
        claims = read_claim_file(self.source, self.sweep.claims, self._problem)
        gate = None
        if self.sweep.gate is not None and baselines is not None:
            gate = self._gate(self.sweep.gate, trials.values(), baselines)
            seeds = {trial.spec.training.seed for trial in trials.values()}
            missing, evaluated = self.cells.missing, self.sets.evaluated
            said = gate_warnings(gate, self.source, missing, seeds, evaluated)
            warnings += tuple(map(self.source.placed, said))
        stop, keep, remarks = self._sections(trials.values())
        warnings += remarks
        self._raise_if_any(_claims_problems(check_claims, claims))
        return Plan(
            self.name,
            self.source,
            tuple(trials.values()),
            tuple(excluded),
            tuple(folded),
            self.starts.weights,
            warnings,
            claims,
            gate,
            stop,
            keep,
            self.sets.checksums,
        )

    def _sections(
        self, trials: Collection[Trial]
    ) -> tuple[StopPlan | None, KeepPlan | None, tuple[str, ...]]:
        """Which trials end early, which keep their weights, and warnings about both."""
        has_gate = self.sweep.gate is not None
        stop, of_stop = read_stop(self.sweep.stop, trials, self._problem, has_gate=has_gate)
        keep, of_keep = read_keep(self.sweep.keep, trials, self._problem)
        said = (("stop", of_stop), ("keep", of_keep))
        return (
            stop,
            keep,
            tuple(self.source.noted((key,), one) for key, remarks in said for one in remarks),
        )

    def _trials(self, points: Iterable[Point]) -> tuple[dict[str, Trial], list[Folded]]:
        """The trials by id, and the points that are the same trial as an earlier one."""
        trials: dict[str, Trial] = {}
        folded: list[Folded] = []
        for point in points:
            trial = self.cells.trial(point)
            if trial is None:
                continue
            if trial.id in trials:
                folded.append(Folded(trial.axes, trial.id))
            else:
                trials[trial.id] = trial
        self.cells.finish()
        return trials, folded

    def _gate(
        self, asked: Gate, trials: Collection[Trial], baselines: Baselines
    ) -> GatePlan | None:
        norms = Norms(
            {label: resolved(norm) for label, norm in self.grid.labelled("norm").items()},
            {str(trial.axes["norm"]) for trial in trials},
            {label: problem.message for label, problem in self.cells.missing.items()},
            is_whole=not self.problems,
            is_holed=self.grid.is_holed("norm"),
        )
        reader = GateReader(self.source, asked, baselines, self._problem)
        return reader.read(norms, self.sets.evaluated)

    def _problem(self, location: Location, message: str) -> None:
        # Many points of the grid may have the same problem, which is reported once.
        if not self.doubts.cover(location) and location not in self.silent:
            self.problems.setdefault((location, message), Problem(location, message))

    def _raise_if_any(self, of_claims: list[str]) -> None:
        """Raise all problems, those of files of claims last."""
        of_file = [str(self.source.error(list(self.problems.values())))] if self.problems else []
        if said := [*of_file, *of_claims]:
            raise UserError("\n".join(said))
