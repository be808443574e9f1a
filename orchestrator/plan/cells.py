"""From a point of the grid to a trial, through every check that can be made of the point.

A check is left out where a value that it depends on is not the user's (orchestrator.plan.draft):
what it would say only follows from a problem that is reported.

A grid of 100,000 points has few networks and few recipes. What is the same for many points, which
is nearly everything, is made and checked for the first of them and kept for the others: a part is
known by its id, since the grid and the tables below keep every part.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import NamedTuple

from pydantic import ValidationError

from orchestrator.plan.axes import AXES, CATALOGS, trial_name
from orchestrator.plan.batch import too_few_values
from orchestrator.plan.cost import Cost, beyond_reach, cost_of
from orchestrator.plan.draft import Draft
from orchestrator.plan.identity import BadSource, besides_training, id_of, training_part
from orchestrator.plan.initial import Start, Starts
from orchestrator.plan.norm_sources import Sources
from orchestrator.plan.placement import Placed, Placements
from orchestrator.plan.point import Point, Value
from orchestrator.plan.sets import DataSets, Taken
from orchestrator.plan.source import Location, Problem
from orchestrator.plan.trial import Trial
from trainers.catalog import BACKBONES, TASKS
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
ANY_BACKBONE, ANY_TASK = Choice(name="swinir-tiny", knobs={}), Choice(name="denoise", knobs={})
BATCH: tuple[Location, ...] = (
    ("training", "batch_size"),
    ("axes", "batch_size"),
    ("resources", "workers"),
    ("resources", "micro_batch"),
)
ENDS = ("embed_norm", "end_norm")
# The axes whose values are fields of a trial's training.
RECIPE_FIELDS = {
    name: field for name, axis in AXES.items() if (field := axis.field_of("training")) is not None
}
PATCH: tuple[Location, ...] = (("training", "patch_size_px"), ("axes", "patch_size_px"))


class Recipe(NamedTuple):
    """How a point is trained, and what its trial's identity has of that."""

    training: TrainingSpec
    identity: bytes


class Kind(NamedTuple):
    """What points have in common that agree in network, task, sets, gang, batch, patch and steps.

    They may differ in the other fields of the recipe, such as the seed.
    """

    spec: RunSpec  # of the first of them
    sets: Taken | None
    unshared: tuple[str, ...] | None  # why its gang cannot share out its batch; None if it can
    identity: bytes = b""  # but `training`
    cost: Cost | None = None
    unread: str = ""  # why the source of its norm cannot be read
    too_few: str | None = None  # why its norm has too few values
    too_costly: str | None = None


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
        self._given = draft.sweep.model.model_dump(exclude_none=True)
        self._fitting: dict[tuple[int, ...], bool] = {}
        self._recipes: dict[tuple[int, ...], Recipe] = {}
        self._kinds: dict[tuple[int, ...], Kind] = {}
        self._tasks: dict[int, Choice] = {}
        self._recipe_axes: list[str] = []  # the same for every point
        self._models: dict[tuple[int, ...], ModelSpec] = {}
        self._of_sets: dict[Taken, tuple[DataSpec, ObserveSpec]] = {}

    @cached_property
    def _is_recipe_sure(self) -> bool:
        return not self._doubts.touch(("training",), ("resources",), ("model",))

    def trial(self, point: Point) -> Trial | None:
        """The trial at a point; None if there is a problem, which is reported."""
        task = self._task(point)
        is_model_sure = self._fits(point, task)
        # All are asked before any answer counts, so that the problems of each are reported.
        start = self._starts.of(point.labels)
        placed = self._placements.of(point.labels)
        recipe = self._recipe(point, task if is_model_sure else ANY_TASK, start)
        kind = self._kind(point, task, recipe.training, placed, is_model_sure=is_model_sure)
        for why in kind.unshared or ():
            self._unshared.setdefault(why, []).append(trial_name(point.labels))
        if kind.cost is None:
            if point.is_sure("norm"):
                self._source_problem(point.values["norm"], kind.unread)
            return None
        if not is_model_sure:
            return None
        training = recipe.training
        if kind.unshared is not None:
            training = _of_one(training)
        spec = kind.spec
        if spec.training is not training:
            spec = spec.model_copy(update={"training": training})
        if start is not None:
            self._starts.check(start, spec, trial_name(point.labels))
        if kind.unshared is not None or self._is_refused(point, kind):
            return None
        if not (placed and kind.sets and self._is_recipe_sure):
            return None
        return Trial(
            id_of(kind.identity, recipe.identity),
            point.labels,
            spec,
            kind.cost,
            placed.gpus_at,
            placed.gpu_memory_gb,
        )

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
        values = point.values
        key = (id(point.backbone), id(values["norm"]), id(values["task"]))
        if key not in self._fitting:
            self._fitting[key] = self._fits_first(point, task)
        return self._fitting[key]

    def _fits_first(self, point: Point, task: Choice) -> bool:
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
        wrong = [
            field
            for field, end in self._given.items()
            if field in ENDS
            and is_named
            and end != "identity"
            and not BACKBONES[backbone.name].has_ends
        ]
        for field in wrong:
            self._report(
                ("model", field), f"{name} has no norm there: leave it out, or write identity"
            )
        is_sure = point.is_sized and point.is_sure("backbone", "norm", "task")
        return fits and not wrong and is_sure

    def _recipe(self, point: Point, task: Choice, start: Start | None) -> Recipe:
        if not (axes := self._recipe_axes):
            axes += [name for name in point.values if name in RECIPE_FIELDS]
        key = (id(task), id(start), *[id(point.values[name]) for name in axes])
        if key not in self._recipes:
            given = self._sweep.training
            fields = given.model_dump(exclude={"initial", "initial_strict"})
            fields |= {RECIPE_FIELDS[name]: point.values[name].value for name in axes}
            if not fields["patch_size_px"]:
                fields["patch_size_px"] = TASKS[task.name].facts["patch_size_px"]
            if start is not None and start.weights is not None:
                fields |= {"initial": start.weights.sha256, "initial_strict": given.initial_strict}
            training = TrainingSpec(**fields)
            self._recipes[key] = Recipe(training, training_part(training, task.name))
        return self._recipes[key]

    def _kind(
        self,
        point: Point,
        task: Choice,
        training: TrainingSpec,
        placed: Placed | None,
        *,
        is_model_sure: bool,
    ) -> Kind:
        key = (
            id(point.backbone),
            id(point.values["norm"]),
            id(point.values["task"]),
            id(placed),
            training.batch_size,
            training.patch_size_px,
            training.steps,
        )
        if key not in self._kinds:
            model = (point.backbone, task) if is_model_sure else (ANY_BACKBONE, ANY_TASK)
            sets = self._sets.of(point.labels["task"]) if point.is_sure("task") else None
            spec, unshared = self._spec(point, model, training, placed, sets or NO_SETS)
            kind = Kind(spec, sets, unshared)
            self._kinds[key] = self._priced(kind) if is_model_sure else self._identified(kind)
        return self._kinds[key]

    def _spec(
        self,
        point: Point,
        model: tuple[Choice, Choice],
        training: TrainingSpec,
        placed: Placed | None,
        sets: Taken,
    ) -> tuple[RunSpec, tuple[str, ...] | None]:
        """The spec of a point, and why its gang cannot share out its batch; None if it can.

        If it cannot, the spec has a batch of one.
        """
        backbone, task = model
        data, observe = self._observed(sets)
        whole = partial(
            RunSpec,
            model=self._model(backbone, point),
            task=task,
            data=data,
            observe=observe,
        )
        placement = PlacementSpec() if placed is None else placed.spec
        try:
            return whole(training=training, placement=placement), None
        except ValidationError as error:
            why = [detail["msg"].removeprefix("Value error, ") for detail in error.errors()]
        is_said = placed is not None and not self._doubts.touch(*BATCH)
        of_one = whole(training=_of_one(training), placement=PlacementSpec())
        return of_one, tuple(why) if is_said else ()

    def _model(self, backbone: Choice, point: Point) -> ModelSpec:
        key = (id(backbone), id(point.values["norm"]))
        if key not in self._models:
            given = {} if backbone is ANY_BACKBONE else self._given
            norm = resolved("norm", point)
            self._models[key] = ModelSpec.with_defaults(backbone, norm, **given)
        return self._models[key]

    def _observed(self, sets: Taken) -> tuple[DataSpec, ObserveSpec]:
        if sets not in self._of_sets:
            self._of_sets[sets] = (
                DataSpec(train=sets.train, train_sha256=sets.train_sha256),
                ObserveSpec(**self._sweep.observe.model_dump(), evaluate=sets.evaluate),
            )
        return self._of_sets[sets]

    def _identified(self, kind: Kind) -> Kind:
        """With its identity and cost, unless the source of its norm cannot be read."""
        spec = kind.spec
        try:
            parts = None if self._sources is None else self._sources.parts(spec)
            return kind._replace(identity=besides_training(spec, parts), cost=cost_of(spec))
        except (ModuleNotFoundError, BadSource) as error:  # about the source of a user's own norm
            return kind._replace(unread=str(error))

    def _priced(self, kind: Kind) -> Kind:
        kind = self._identified(kind)
        if kind.cost is None or kind.unshared is not None:
            return kind
        is_micro_batch_sure = not self._doubts.touch(*BATCH, *PATCH)
        return kind._replace(
            too_few=too_few_values(kind.spec) if is_micro_batch_sure else None,
            too_costly=beyond_reach(kind.cost) if self._is_recipe_sure else None,
        )

    def _source_problem(self, norm: Value, why: str) -> None:
        if self._sources is not None:  # a gate judges the other candidates all the same
            self.missing.setdefault(norm.label, Problem(norm.location, why))
            return
        # Where a package publishes the norm, or `all` stands in the file, the name is not in `why`.
        named = "" if ":" in norm.label else f"{norm.label}: "
        self._report(norm.location, f"{named}{why}")

    def _is_refused(self, point: Point, kind: Kind) -> bool:
        """Whether the norm has too few values, or the trial is too large; reports it."""
        if kind.too_few:
            self._report(point.values["norm"].location, kind.too_few)
        elif kind.too_costly:
            self._report(("axes",), f"{trial_name(point.labels)}: {kind.too_costly}")
        return bool(kind.too_few or kind.too_costly)

    def _task(self, point: Point) -> Choice:
        value = point.values["task"]
        if id(value) not in self._tasks:
            self._tasks[id(value)] = task_of(point)
        return self._tasks[id(value)]


def _of_one(training: TrainingSpec) -> TrainingSpec:
    """The same training with a batch of one image, which any gang of one can take."""
    return training.model_copy(update={"batch_size": 1})


def task_of(point: Point) -> Choice:
    """The point's task, with all knobs spelled out."""
    return resolved("task", point)


def resolved(axis: str, point: Point) -> Choice:
    """The point's entry of a catalogue, with all knobs spelled out."""
    choice: Choice = point.values[axis].value
    name, knobs = CATALOGS[axis].resolve(choice.name, choice.knobs)
    return Choice(name=name, knobs=knobs)
