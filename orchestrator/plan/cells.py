"""From a point of the grid to a trial, through every check that can be made of the point.

A check is left out where a value that it depends on is not the user's (orchestrator.plan.draft):
what it would say only follows from a problem that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from pydantic import ValidationError

from orchestrator.plan.axes import AXES, CATALOGS, trial_name
from orchestrator.plan.batch import too_few_values
from orchestrator.plan.cost import Cost, beyond_reach, cost_of
from orchestrator.plan.draft import Draft
from orchestrator.plan.grid import Point, Value
from orchestrator.plan.identity import BadSource, trial_id
from orchestrator.plan.initial import Start, Starts
from orchestrator.plan.norm_sources import Sources
from orchestrator.plan.placement import Placed, Placements
from orchestrator.plan.sets import DataSets, Taken
from orchestrator.plan.source import Location, Problem
from trainers.catalog import BACKBONES, NORMS, TASKS
from trainers.choice import Choice
from trainers.spec import (
    DataSpec,
    ModelSpec,
    ObserveSpec,
    PlacementSpec,
    RunSpec,
    TrainingSpec,
    misfit,
    refusal,
)

Report = Callable[[Location, str], None]
NAMED = 3  # trials in a message
NO_SETS = Taken("missing", "0" * 64, ())  # where one is missing, which is reported
# They fit each other, any norm and any batch.
ANY_BACKBONE, ANY_TASK = Choice(name="swinir-tiny", knobs={}), Choice(name="denoise_25", knobs={})
BATCH: tuple[Location, ...] = (
    ("training", "batch_size"),
    ("axes", "batch_size"),
    ("resources", "workers"),
    ("resources", "micro_batch"),
)
PATCH: tuple[Location, ...] = (("training", "patch_size_px"), ("axes", "patch_size_px"))


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
        """Without those of a norm from outside, which training counts."""
        return self.cost.parameters

    @property
    def has_own_norm(self) -> bool:
        """Whether the norm is from outside, so that its parameters are not known."""
        return self.spec.model.norm.name not in NORMS.names

    @property
    def memory_bytes(self) -> int:
        """Estimate, per worker."""
        return self.cost.memory_bytes

    @property
    def seconds(self) -> float:
        """Estimate, on the trial's own placement."""
        return self.cost.seconds


class Cells:
    """Makes the trials of one sweep; problems are passed to `report`."""

    def __init__(
        self,
        draft: Draft,
        report: Report,
        *,
        sets: DataSets,
        starts: Starts,
        placements: Placements,
    ) -> None:
        self._sweep = draft.sweep
        self._doubts = draft.doubts
        self._report = report
        self._sets = sets
        self._starts = starts
        self._placements = placements
        self._sources = Sources() if draft.sweep.gate is not None else None
        # A gate's norms whose source cannot be read, by label.
        self.missing: dict[str, Problem] = {}
        self._unshared: dict[str, list[str]] = {}  # why a batch cannot be shared out -> trials

    @cached_property
    def _is_recipe_sure(self) -> bool:
        return not self._doubts.touch(("training",), ("resources",), ("model",))

    def trial(self, point: Point) -> Trial | None:
        """The trial at a point; None if there is a problem, which is reported."""
        task = resolved("task", point)
        is_model_sure = self._fits(point, task)
        # All are asked before any answer counts, so that the problems of each are reported.
        start = self._starts.of(point.labels)
        placed = self._placements.of(point.labels)
        sets = self._sets.of(point.labels["task"]) if point.is_sure("task") else None
        spec, is_shared = self._spec(
            point,
            (point.backbone, task) if is_model_sure else (ANY_BACKBONE, ANY_TASK),
            start,
            placed,
            sets or NO_SETS,
        )
        trial = self._priced(point, spec, placed)
        if trial is None or not is_model_sure:
            return None
        if start is not None:
            self._starts.check(start, spec, trial.name)
        if not is_shared or self._is_too_costly(point, trial):
            return None
        return trial if placed and sets and self._is_recipe_sure else None

    def finish(self) -> None:
        """Report what many points may have in common, once."""
        for why, trials in self._unshared.items():
            more = f" and {len(trials) - NAMED} more" if len(trials) > NAMED else ""
            named = f"trial{'s' * (len(trials) > 1)} {'; '.join(trials[:NAMED])}{more}"
            self._report(("resources",), f"{why} ({named})")

    def _fits(self, point: Point, task: Choice) -> bool:
        """Whether the backbone can have its size, its task and the norms at its ends.

        What it cannot have is reported.
        """
        backbone, name = point.backbone, point.labels["backbone"]
        is_named = not self._doubts.cover(point.values["backbone"].location)
        fits = True
        if point.is_known and (why := misfit(backbone)):
            place = "width" if point.values["width"].value is not None else "backbone"
            self._report(point.values[place].location, f"{name}: {why}")
            fits = False
        if is_named and point.is_sure("task") and (why := refusal(backbone, task)):
            self._report(point.values["task"].location, f"{name}: {why}")
            fits = False
        given = self._sweep.model.model_dump(include={"embed_norm", "end_norm"}, exclude_none=True)
        wrong = [
            field
            for field, end in given.items()
            if is_named and end != "identity" and not BACKBONES[backbone.name].has_ends
        ]
        for field in wrong:
            self._report(
                ("model", field), f"{name} has no norm there: leave it out, or write identity"
            )
        is_sure = point.is_sized and point.is_sure("backbone", "norm", "task")
        return fits and not wrong and is_sure

    def _spec(
        self,
        point: Point,
        model: tuple[Choice, Choice],
        start: Start | None,
        placed: Placed | None,
        sets: Taken,
    ) -> tuple[RunSpec, bool]:
        """The spec of a point, and whether its gang can share out its batch.

        If not, that is reported, and the spec has a batch of one.
        """
        sweep = self._sweep
        backbone, task = model
        given = {} if backbone is ANY_BACKBONE else sweep.model.model_dump(exclude_none=True)
        name, knobs = TASKS.resolve(task.name, task.knobs)
        whole = partial(
            RunSpec,
            model=ModelSpec.with_defaults(backbone, resolved("norm", point), **given),
            task=Choice(name=name, knobs=knobs),
            data=DataSpec(train=sets.train, train_sha256=sets.train_sha256),
            observe=ObserveSpec(**sweep.observe.model_dump(), evaluate=sets.evaluate),
        )
        training = self._training(point, Choice(name=name, knobs=knobs), start)
        placement = PlacementSpec() if placed is None else placed.spec
        try:
            return whole(training=training, placement=placement), True
        except ValidationError as error:
            if placed is not None and not self._doubts.touch(*BATCH):
                for detail in error.errors():
                    why = detail["msg"].removeprefix("Value error, ")
                    self._unshared.setdefault(why, []).append(trial_name(point.labels))
        of_one = training.model_copy(update={"batch_size": 1})
        return whole(training=of_one, placement=PlacementSpec()), False

    def _training(self, point: Point, task: Choice, start: Start | None) -> TrainingSpec:
        given = self._sweep.training
        fields = given.model_dump(exclude={"initial", "initial_strict"})
        for name, value in point.values.items():
            if (field := AXES[name].field_of("training")) is not None:
                fields[field] = value.value
        fields["patch_size_px"] = fields["patch_size_px"] or TASKS[task.name].facts["patch_size_px"]
        if start is not None and start.weights is not None:
            fields |= {"initial": start.weights.sha256, "initial_strict": given.initial_strict}
        return TrainingSpec(**fields)

    def _priced(self, point: Point, spec: RunSpec, placed: Placed | None) -> Trial | None:
        """The trial with its id and cost; None if the source of its norm cannot be read."""
        try:
            return Trial(
                trial_id(spec, None if self._sources is None else self._sources.parts(spec)),
                point.labels,
                spec,
                cost_of(spec),
                *(() if placed is None else (placed.gpus_at, placed.gpu_memory_gb)),
            )
        except (ModuleNotFoundError, BadSource) as error:  # about the source of a user's own norm
            if point.is_sure("norm"):
                self._source_problem(point.values["norm"], str(error))
            return None

    def _source_problem(self, norm: Value, why: str) -> None:
        if self._sources is not None:  # a gate judges the other candidates all the same
            self.missing.setdefault(norm.label, Problem(norm.location, why))
            return
        # Where a package publishes the norm, or `all` stands in the file, the name is not in `why`.
        named = "" if ":" in norm.label else f"{norm.label}: "
        self._report(norm.location, f"{named}{why}")

    def _is_too_costly(self, point: Point, trial: Trial) -> bool:
        """Whether the norm has too few values, or the trial is too large; reports it."""
        if not self._doubts.touch(*BATCH, *PATCH) and (why := too_few_values(trial.spec)):
            self._report(point.values["norm"].location, why)
            return True
        if self._is_recipe_sure and (why := beyond_reach(trial.cost)):
            self._report(("axes",), f"{trial.name}: {why}")
            return True
        return False


def task_of(point: Point) -> Choice:
    """The point's task, with all knobs spelled out."""
    return resolved("task", point)


def resolved(axis: str, point: Point) -> Choice:
    """The point's entry of a catalogue, with all knobs spelled out."""
    choice: Choice = point.values[axis].value
    name, knobs = CATALOGS[axis].resolve(choice.name, choice.knobs)
    return Choice(name=name, knobs=knobs)
