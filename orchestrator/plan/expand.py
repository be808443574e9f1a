"""Expand a sweep file into trials: each point of the grid gets a spec, an id and a cost.

Points that are the same trial are folded into one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.plan.axes import AXES, CATALOGS, Axis, axes_named, trial_name
from orchestrator.plan.batch import too_few_values
from orchestrator.plan.claims import ClaimFile, read_claim_file
from orchestrator.plan.cost import Cost, beyond_reach, cost_of
from orchestrator.plan.fit import sharing_problems
from orchestrator.plan.gate import Gate, GatePlan
from orchestrator.plan.gate_names import Baselines, GateReader, Norms, resolved, seed_warning
from orchestrator.plan.grid import Excluded, Grid, Point, Value
from orchestrator.plan.identity import BadSource, trial_id, why_missing
from orchestrator.plan.initial import Initial, InitialFinder, Start, Starts
from orchestrator.plan.norm_sources import Sources
from orchestrator.plan.placement import Placements
from orchestrator.plan.sets import DataSets
from orchestrator.plan.source import Location, Problem, Source
from orchestrator.plan.sweep import Sweep, read_sweep
from trainers import own
from trainers.catalog import BACKBONES, PROBES, TASKS
from trainers.choice import Choice
from trainers.data.lookup import find_set
from trainers.data.manifests import ImageSet
from trainers.spec import DataSpec, ModelSpec, ObserveSpec, RunSpec, TrainingSpec, misfit, refusal


@dataclass(frozen=True)
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
        return self.cost.parameters

    @property
    def memory_bytes(self) -> int:
        """Estimate, per worker."""
        return self.cost.memory_bytes

    @property
    def seconds(self) -> float:
        """Estimate, on the trial's own placement."""
        return self.cost.seconds


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
        return axes_named(name for trial in self.trials for name in trial.axes)

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
) -> Plan:
    """Read and expand a sweep file.

    `find` returns a data set by its name, or raises DatasetProblem. `initial` finds weights to
    start from. With `writes_baseline` the file of its gate's baseline need not exist yet. Raises
    UserError with all problems of the file, EnvironmentProblem if a gate needs torch's version and
    there is none.
    """

    def expansion(one: Path) -> _Expansion:
        own.look_in(one.parent, Path.cwd())
        source, sweep, name = read_sweep(one)
        return _Expansion(source, sweep, name, find, initial)

    def norms_in(other: Path) -> list[Choice]:
        """The norms that another sweep trains. What its own gate compares does not matter here."""
        try:
            return [trial.spec.model.norm for trial in expansion(other).plan(None).trials]
        finally:
            own.look_in(path.parent, Path.cwd())

    return expansion(path).plan(Baselines(norms_in, writes_baseline))


class _Expansion:
    """One file on its way to trials; collects problems and raises them together."""

    def __init__(
        self,
        source: Source,
        sweep: Sweep,
        name: str,
        find: Callable[[str], ImageSet],
        initial: InitialFinder | None,
    ) -> None:
        self.source = source
        self.sweep = sweep
        self.name = name
        self.problems: dict[tuple[Location, str], Problem] = {}
        self.sources = Sources() if sweep.gate is not None else None
        # A gate's norms whose source cannot be read, by label.
        self.missing: dict[str, Problem] = {}
        self.sets = DataSets(sweep.data, find, self._problem)
        self.grid = Grid(source, sweep, self._problem)
        self.placements = Placements(
            sweep.resources, problem=self._problem, read_match=self.grid.rule
        )
        self.starts = Starts(
            source, sweep, initial, report=self._problem, read_match=self.grid.rule
        )

    def plan(self, baselines: Baselines | None) -> Plan:
        """The plan. Without `baselines` its gate is left out, but its trials are a gate's."""
        self.starts.read(self.name)
        for i, probe in enumerate(self.sweep.observe.probes):
            if why := why_missing(PROBES[probe]):
                self._problem(("observe", "probes", i), why)
        if not self.grid.check_size():
            self._raise_if_any()  # a grid of this size is not built to look for more problems
        kept, excluded = self.grid.points()
        trials: dict[str, Trial] = {}
        folded: list[Folded] = []
        for point in kept:
            trial = self._trial(point)
            if trial is None:
                continue
            if trial.id in trials:
                folded.append(Folded(trial.axes, trial.id))
            else:
                trials[trial.id] = trial
        self.placements.finish()
        # Only where the file itself says how large a GPU is: no machine is known yet.
        for problem in sharing_problems(trials.values()):
            self._problem(problem.location, problem.message)
        warnings = (*self.starts.finish(), *self.sets.notes)
        claims = read_claim_file(self.source, self.sweep.claims, self._problem)
        gate = None
        if self.sweep.gate is not None and baselines is not None:
            gate = self._gate(self.sweep.gate, trials.values(), baselines)
            warnings += tuple(map(self.source.placed, self._warnings(gate, trials.values())))
        self._raise_if_any()
        weights = self.starts.weights
        return Plan(
            self.name,
            self.source,
            tuple(trials.values()),
            tuple(excluded),
            tuple(folded),
            weights,
            warnings,
            claims,
            gate,
            self.sets.evaluated,
        )

    def _gate(
        self, asked: Gate, trials: Collection[Trial], baselines: Baselines
    ) -> GatePlan | None:
        norms = Norms(
            {label: resolved(norm) for label, norm in self.grid.labelled("norm").items()},
            {str(trial.axes["norm"]) for trial in trials},
            {label: problem.message for label, problem in self.missing.items()},
            is_whole=not self.problems,
        )
        reader = GateReader(self.source, asked, baselines, self._problem)
        return reader.read(norms, self.sweep.data.evaluate)

    def _warnings(self, gate: GatePlan | None, trials: Collection[Trial]) -> Iterator[Problem]:
        for label, problem in self.missing.items():
            yield replace(problem, message=f"{label} is left out: {problem.message}")
        if gate is not None and (
            why := seed_warning(gate.asked, {trial.spec.training.seed for trial in trials})
        ):
            given: Location = ("axes", "seed")
            yield Problem(given if given in self.source.positions else ("gate",), why)

    def _problem(self, location: Location, message: str) -> None:
        # Many points of the grid may have the same problem, which is reported once.
        self.problems.setdefault((location, message), Problem(location, message))

    def _raise_if_any(self) -> None:
        if self.problems:
            raise self.source.error(list(self.problems.values()))

    def _trial(self, point: Point) -> Trial | None:
        task = _resolved("task", point)
        if not self._fits(point, task):
            return None
        # All three are asked before any answer counts, so that the problems of each are reported.
        train_sha256 = self.sets.train_sha256(task)
        start = self.starts.of(point.labels)
        placed = self.placements.of(point.labels)
        if placed is None or not train_sha256:
            return None
        sweep = self.sweep
        try:
            spec = RunSpec(
                model=ModelSpec.with_defaults(
                    point.backbone,
                    _resolved("norm", point),
                    **sweep.model.model_dump(exclude_none=True),
                ),
                task=task,
                data=DataSpec(train=sweep.data.train, train_sha256=train_sha256),
                training=self._training(point, task, start),
                observe=ObserveSpec(**sweep.observe.model_dump(), evaluate=sweep.data.evaluate),
                placement=placed.spec,
            )
            trial = Trial(
                trial_id(spec, None if self.sources is None else self.sources.parts(spec)),
                point.labels,
                spec,
                cost_of(spec),
                placed.gpus_at,
                placed.gpu_memory_gb,
            )
        except ValidationError as error:
            for detail in error.errors():
                self._problem(
                    ("resources",),
                    f"{detail['msg'].removeprefix('Value error, ')} (trial {point.labels})",
                )
            return None
        except (ModuleNotFoundError, BadSource) as error:  # about the source of a user's own norm
            self._source_problem(point.values["norm"], str(error))
            return None
        if why := too_few_values(spec):
            self._problem(point.values["norm"].location, why)
            return None
        if why := beyond_reach(trial.cost):
            self._problem(("axes",), f"{trial.name}: {why}")
            return None
        if start is not None:
            self.starts.check(start, spec, trial.name)
        return trial

    def _source_problem(self, norm: Value, why: str) -> None:
        if self.sources is not None:  # a gate judges the other candidates all the same
            self.missing.setdefault(norm.label, Problem(norm.location, why))
            return
        # Where a package publishes the norm, or `all` stands in the file, the name is not in `why`.
        named = "" if ":" in norm.label else f"{norm.label}: "
        self._problem(norm.location, f"{named}{why}")

    def _fits(self, point: Point, task: Choice) -> bool:
        """Whether the backbone can have its size, its task and the norms at its ends.

        What it cannot have is reported.
        """
        backbone, name = point.backbone, point.labels["backbone"]
        if why := misfit(backbone):
            place = "width" if point.values["width"].value is not None else "backbone"
            self._problem(point.values[place].location, f"{name}: {why}")
            return False
        if why := refusal(backbone, task):
            self._problem(point.values["task"].location, f"{name}: {why}")
            return False
        given = self.sweep.model.model_dump(include={"embed_norm", "end_norm"}, exclude_none=True)
        wrong = [
            end_of
            for end_of, end in given.items()
            if end != "identity" and not BACKBONES[backbone.name].has_ends
        ]
        for end_of in wrong:
            self._problem(
                ("model", end_of), f"{name} has no norm there: leave it out, or write identity"
            )
        return not wrong

    def _training(self, point: Point, task: Choice, start: Start | None) -> TrainingSpec:
        given = self.sweep.training
        fields = given.model_dump(exclude={"initial", "initial_strict"})
        for name, value in point.values.items():
            if (field := AXES[name].field_of("training")) is not None:
                fields[field] = value.value
        fields["patch_size_px"] = fields["patch_size_px"] or TASKS[task.name].facts["patch_size_px"]
        if start is not None and start.weights is not None:
            fields |= {"initial": start.weights.sha256, "initial_strict": given.initial_strict}
        return TrainingSpec(**fields)


def _resolved(axis: str, point: Point) -> Choice:
    """The point's entry of a catalogue, with all knobs spelled out."""
    choice: Choice = point.values[axis].value
    name, knobs = CATALOGS[axis].resolve(choice.name, choice.knobs)
    return Choice(name=name, knobs=knobs)
