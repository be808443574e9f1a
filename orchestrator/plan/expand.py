"""A sweep file to its trials: the product of the axes in file order, minus `exclude`, plus `include`, duplicates folded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.plan.cost import Cost, cost_of
from orchestrator.plan.fit import misplaced, sharing_problems
from orchestrator.plan.identity import BadSource, trial_id
from orchestrator.plan.initial import Initial, InitialFinder, Starts
from orchestrator.plan.match import accepted_labels, label_of, matches
from orchestrator.plan.sets import DataSets
from orchestrator.plan.source import Location, Problem, Source
from orchestrator.plan.sweep import AXES, CATALOGS, Resources, Sweep, read_sweep, unknown
from trainers.catalog import TASKS
from trainers.data.manifests import ImageSet, find_set
from trainers.spec import Choice, DataSpec, ModelSpec, ObserveSpec, PlacementSpec, RunSpec, TrainingSpec, misfit

LARGEST_GRID = 20_000


@dataclass(frozen=True)
class Trial:
    """One cell of the grid. `axes` are labels for people, in file order; `spec` is what is trained.

    `gpus_at` is where the sweep file gives its GPUs, `gpu_memory_gb` what the file says of their memory.
    """

    id: str
    axes: Mapping[str, Any]
    spec: RunSpec
    cost: Cost
    gpus_at: Location = ("resources",)
    gpu_memory_gb: float | None = None

    @property
    def name(self) -> str:
        """E.g. `i_ln sr_x2 w24 d2 swinir-tiny s0`: what differs most first, for the narrow columns of a UI."""
        a = self.axes
        return f"{a['norm']} {a['task']} w{a['width']} d{a['depth']} {a['backbone']} s{a['seed']}"

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
class Excluded:
    """A point of the grid that an `exclude` took out."""

    axes: Mapping[str, Any]
    rule: Mapping[str, Any]
    line: int


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

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def question(self) -> str:
        return self.source.question

    def trial(self, prefix: str) -> Trial | None:
        """The one trial whose id begins with `prefix`."""
        found = [trial for trial in self.trials if trial.id.startswith(prefix)]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class _Value:
    """One value of an axis: what it is, how it is written, where it stands in the file."""

    value: Any
    label: Any
    location: Location


def load_plan(path: Path, find: Callable[[str], ImageSet] = find_set, initial: InitialFinder | None = None) -> Plan:
    """Read and expand a sweep file; `find` gives a data set by its name, or raises DatasetProblem; `initial` finds weights
    to start from.

    Raises UserError with all problems of the file.
    """
    source, sweep, name = read_sweep(path)
    return _Expansion(source, sweep, find, initial).plan(name)


class _Expansion:
    """One file on its way to trials; collects problems and raises them together."""

    def __init__(
        self, source: Source, sweep: Sweep, find: Callable[[str], ImageSet], initial: InitialFinder | None
    ) -> None:
        self.source = source
        self.sweep = sweep
        self.problems: dict[tuple[Location, str], Problem] = {}
        self.sets = DataSets(sweep.data, find, self._problem)
        self.overrides_used: set[int] = set()
        self.starts = Starts(source, sweep, initial, report=self._problem, read_match=self._rule)

    def plan(self, name: str) -> Plan:
        self.starts.read(name)
        axes = {axis: self._values(axis) for axis in self._order()}
        size = len(self.sweep.include) + 1
        for values in axes.values():
            size *= len(values)
        if size > LARGEST_GRID:
            self._problem(("axes",), f"{size} trials are more than {LARGEST_GRID}: split the sweep")
            self._raise_if_any()
        excluded: list[Excluded] = []
        kept: list[dict[str, _Value]] = []
        rules = [(i, self._rule(("exclude", i), rule)) for i, rule in enumerate(self.sweep.exclude)]
        used: set[int] = set()
        for combination in itertools.product(*axes.values()):
            point = dict(zip(axes, combination, strict=True))
            hits = [i for i, rule in rules if self._matches(point, rule)]
            used |= set(hits)
            if hits:
                rule = self.sweep.exclude[hits[0]]
                line = self.source.position(("exclude", hits[0])).line
                excluded.append(Excluded(self._labels(point), rule, line))
            else:
                kept.append(point)
        for i, _ in rules:
            if i not in used:
                self._problem(("exclude", i), "matches no point of the grid; leave it out, or mend the value")
        for i, addition in enumerate(self.sweep.include):
            kept += self._included(i, addition, axes)
        if not kept:
            self._problem(("exclude",), "leaves no trial")
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
        for i, override in enumerate(self.sweep.resources.overrides):
            if i not in self.overrides_used and "match" in override:
                self._problem(("resources", "overrides", i, "match"), "matches no trial")
        for problem in sharing_problems(trials.values()):
            self._problem(problem.location, problem.message)
        warnings = (*self.starts.finish(), *self.sets.notes)
        self._raise_if_any()
        return Plan(
            name,
            self.source,
            tuple(trials.values()),
            tuple(excluded),
            tuple(folded),
            self.starts.weights,
            warnings,
        )

    def _problem(self, location: Location, message: str) -> None:
        self.problems.setdefault((location, message), Problem(location, message))

    def _raise_if_any(self) -> None:
        if self.problems:
            raise self.source.error(list(self.problems.values()))

    def _order(self) -> list[str]:
        written = [axis for axis in self.source.value["axes"] if axis in AXES]
        return [*written, *(axis for axis in AXES if axis not in written)]

    def _values(self, axis: str) -> list[_Value]:
        given = getattr(self.sweep.axes, axis)
        if given is None:
            return [_Value(None, None, ("axes",))]
        values: dict[Any, _Value] = {}
        for i, value in enumerate(given):
            label = label_of(value)
            if label in values:
                self._problem(("axes", axis, i), f"{label} stands in this axis already")
            values.setdefault(label, _Value(value, label, ("axes", axis, i)))
        return list(values.values())

    def _rule(self, location: Location, rule: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Per axis, the labels that a match accepts: one value or a list of them."""
        accepted: dict[str, list[Any]] = {}
        for axis, wanted in rule.items():
            if axis not in AXES:
                self._problem((*location, axis), unknown("axis", axis, AXES))
                continue
            accepted[axis] = accepted_labels(wanted)
        return accepted

    def _matches(self, point: Mapping[str, _Value], rule: Mapping[str, list[Any]]) -> bool:
        return matches(self._labels(point), rule)

    def _labels(self, point: Mapping[str, _Value]) -> dict[str, Any]:
        """What people read: width and depth of the preset where the axis is left out."""
        labels = {axis: value.label for axis, value in point.items()}
        backbone = self._backbone(point)
        labels["width"] = labels["width"] if labels["width"] is not None else backbone["embed_dim"]
        labels["depth"] = labels["depth"] if labels["depth"] is not None else len(backbone["depths"])
        return labels

    def _included(
        self, i: int, addition: Mapping[str, Any], axes: Mapping[str, list[_Value]]
    ) -> list[dict[str, _Value]]:
        choices: dict[str, list[_Value]] = dict(axes)
        for axis, wanted in addition.items():
            location: Location = ("include", i, axis)
            if axis not in AXES:
                self._problem(location, unknown("axis", axis, AXES))
                continue
            items = wanted if isinstance(wanted, list) else [wanted]
            values = []
            for item in items:
                try:
                    value = Choice.model_validate(item) if axis in CATALOGS else item
                    if axis in CATALOGS:
                        CATALOGS[axis].resolve(value.name, value.knobs)
                    elif type(value) is not int or value < (axis != "seed"):
                        raise ValueError(f"{axis} must be a whole number, not {value!r}")
                except ValidationError:
                    self._problem(location, f"must be a name or {{name, knob: value}}, not {item!r}")
                except ValueError as error:
                    self._problem(location, str(error))
                else:
                    values.append(_Value(value, label_of(value), location))
            choices[axis] = values
        return [dict(zip(choices, combination, strict=True)) for combination in itertools.product(*choices.values())]

    def _backbone(self, point: Mapping[str, _Value]) -> Choice:
        """The backbone at the point's width and depth."""
        choice: Choice = point["backbone"].value
        name, knobs = CATALOGS["backbone"].resolve(choice.name, choice.knobs)
        width, depth = point["width"].value, point["depth"].value
        if width is not None:
            knobs["embed_dim"] = width
        if depth is not None:
            for knob in ("depths", "num_heads"):
                groups = knobs[knob]
                assert isinstance(groups, tuple)
                if len(set(groups)) > 1:
                    message = f"groups differ in {knob} {list(groups)}: an axis `depth` needs them alike"
                    self._problem(point["depth"].location, message)
                knobs[knob] = groups[:1] * depth
        return Choice(name=name, knobs=knobs)

    def _trial(self, point: Mapping[str, _Value]) -> Trial | None:
        backbone, labels, sweep = self._backbone(point), self._labels(point), self.sweep
        if why := misfit(backbone):
            place = point["width"] if point["width"].value is not None else point["backbone"]
            self._problem(place.location, f"{labels['backbone']}: {why}")
            return None
        norm, task = point["norm"].value, point["task"].value
        task_name, task_knobs = TASKS.resolve(task.name, task.knobs)
        task = Choice(name=task_name, knobs=task_knobs)
        train_sha256 = self.sets.train_sha256(task)
        norm_name, norm_knobs = CATALOGS["norm"].resolve(norm.name, norm.knobs)
        training = sweep.training.model_dump(exclude={"initial", "initial_strict"})
        training["seed"] = point["seed"].value
        training["patch_size_px"] = training["patch_size_px"] or TASKS[task_name].facts["patch_size_px"]
        start = self.starts.of(labels)
        if start is not None and start.weights is not None:
            training |= {"initial": start.weights.sha256, "initial_strict": sweep.training.initial_strict}
        placed = self._placement(labels)
        if placed is None or not train_sha256:
            return None
        placement, gpu_memory_gb, gpus_at = placed
        try:
            spec = RunSpec(
                model=ModelSpec.with_defaults(
                    backbone, Choice(name=norm_name, knobs=norm_knobs), **sweep.model.model_dump(exclude_none=True)
                ),
                task=task,
                data=DataSpec(train=sweep.data.train, train_sha256=train_sha256),
                training=TrainingSpec(**training),
                observe=ObserveSpec(**sweep.observe.model_dump(), evaluate=sweep.data.evaluate),
                placement=placement,
            )
            trial = Trial(trial_id(spec), labels, spec, cost_of(spec), gpus_at, gpu_memory_gb)
            if start is not None:
                self.starts.check(start, spec, trial.name)
            return trial
        except ValidationError as error:
            for detail in error.errors():
                self._problem(("resources",), f"{detail['msg'].removeprefix('Value error, ')} (trial {labels})")
        except (ModuleNotFoundError, BadSource) as error:
            self._problem(point["norm"].location, str(error))
        return None

    def _placement(self, labels: Mapping[str, Any]) -> tuple[PlacementSpec, float | None, Location] | None:
        """The trial's placement, the memory of its GPUs where the file gives it, and where the file gives its GPUs."""
        resources = self.sweep.resources
        fields = resources.model_dump(exclude={"overrides"})
        set_at: dict[str, Location] = {}
        for i, override in enumerate(resources.overrides):
            location: Location = ("resources", "overrides", i)
            match = override.get("match")
            if not isinstance(match, dict) or not match:
                self._problem(location, "needs `match: {axis: value}`")
                return None
            rule = self._rule((*location, "match"), match)
            if not matches(labels, rule):
                continue
            self.overrides_used.add(i)
            changed = fields | {key: value for key, value in override.items() if key != "match"}
            try:
                fields = Resources.model_validate(changed).model_dump(exclude={"overrides"})
            except ValidationError as error:
                for detail in error.errors():
                    unknown = detail["type"] == "extra_forbidden"
                    said = f"{detail['msg'].removeprefix('Value error, ')}, not {detail['input']!r}"
                    message = "unknown field of resources" if unknown else said
                    self._problem((*location, *detail["loc"]), message)
                return None
            set_at |= dict.fromkeys(override, location)
        if contradiction := misplaced(fields):
            field, message = contradiction
            self._problem((*set_at.get(field, ("resources",)), field), message)
            return None
        gpus_at = (*set_at.get("gpus_per_worker", ("resources",)), "gpus_per_worker")
        gpu_memory_gb = fields.pop("gpu_memory_gb")
        return PlacementSpec(strategy=fields.pop("placement"), **fields), gpu_memory_gb, gpus_at
