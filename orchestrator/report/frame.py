"""A sweep's trials, as the store has them, in tidy pandas frames: the source of the whole report.

`trials` has one row per trial of the plan: trial, name, the axes, size, parameters, state, step,
steps, seconds from its first record to its last, ... `images` has one row per image and metric of
every set that was scored, while training or by `normsweep evaluate`. `points` has one row per
(trial, metric, step); texts are categories there. If several attempts journalled the same (metric,
step), the first counts, as for tracking (`orchestrator.store.journals.JournalReader`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.collecting import rarely_collected
from orchestrator.plan.axes import COMPARED, Axis, Role, axes_named
from orchestrator.plan.expand import Plan, Trial
from orchestrator.plan.states import State
from orchestrator.report.columns import labelled, numbered, point_rows
from orchestrator.report.inputs import Inputs, SetInputs, take
from orchestrator.store.attempts import Attempt
from orchestrator.store.base import Store
from orchestrator.store.points import Points
from orchestrator.store.reading import Reading, read_trials
from orchestrator.store.stops import stopped_at
from orchestrator.store.trials import Look
from trainers.spec import RunSpec

COUNTED = "train/parameters"
# Not `precision`, which is an axis: that of training.
SCORE_COLUMNS = (
    *("set", "image", "metric", "value", "step", "source", "inference_precision", "tile"),
    *("how_scored", "set_sha256"),
)


@dataclass(frozen=True, eq=False)
class Frame:
    """A sweep's trials and points, and the attempts they come from (`attempt.json` as written).

    `recorded` has the specs that each trial's attempts recorded, `damage` a sentence for each
    damaged file, `looks` the look at each trial. `agree` names what comparable trials agree in
    besides their specs (orchestrator.report.comparable.RECORDED). `inputs` has the scores of
    degraded inputs, by task and set.
    """

    trials: pd.DataFrame
    points: pd.DataFrame
    attempts: tuple[Mapping[str, Any], ...] = ()
    recorded: Mapping[str, tuple[RunSpec, ...]] = field(default_factory=dict)
    damage: tuple[str, ...] = ()
    looks: Mapping[str, Look] = field(default_factory=dict)
    axes: tuple[Axis, ...] = axes_named(())
    images: pd.DataFrame = field(default_factory=pd.DataFrame)
    agree: tuple[str, ...] = ("commit",)
    inputs: Mapping[tuple[str, str], Sequence[SetInputs]] = field(default_factory=dict)

    @property
    def tables_by(self) -> list[str]:
        """The axes whose values get separate tables and figures: the model's, except the norm."""
        return [name for name in self._apart("model") if name != COMPARED]

    @property
    def panels_by(self) -> list[str]:
        """The axes whose values get separate panels."""
        return [*self._apart("task"), *self._apart("recipe")]

    @property
    def rows_by(self) -> list[str]:
        """The axes whose values get separate rows: the norm, and those of the recipe that vary."""
        return [COMPARED, *self._apart("recipe")]

    @property
    def sizes(self) -> list[str]:
        return self._of("size")

    @cached_property
    def size_words(self) -> dict[str, str]:
        """Each size as a reader has it: `width 24, depth 2` for `w24 d2`."""
        sizes = [axis for axis in self.axes if axis.role == "size"]
        return {
            row["size"]: ", ".join(
                axis.named(int(row[axis.name])) for axis in sizes if pd.notna(row[axis.name])
            )
            or row["size"]
            for row in records(self.trials.drop_duplicates("size"))
        }

    @cached_property
    def rows(self) -> list[Mapping[str, Any]]:
        """The trials, each with its values by column."""
        return list(records(self.trials))

    @property
    def repeats(self) -> int:
        """The number of repetitions, which are the seeds."""
        return len(self.trials[self._of("repeat")].drop_duplicates())

    @property
    def diverged(self) -> list[str]:
        """The ids of the trials that diverged."""
        return list(self.trials.loc[self.trials["state"] == State.DIVERGED, "trial"])

    def _of(self, role: Role) -> list[str]:
        return [axis.name for axis in self.axes if axis.role == role]

    def _apart(self, role: Role) -> list[str]:
        """The axes of a role: those that every sweep has, and others if they vary."""
        always = {axis.name for axis in self.axes if axis.is_always}
        return [
            name for name in self._of(role) if name in always or self.trials[name].nunique() > 1
        ]

    def named(self, axes: Sequence[str], labels: Mapping[str, Any]) -> str:
        """The labels of some axes in the form of a heading: `swinir-tiny`, `sr_x2, lr 0.0001`."""
        return ", ".join(
            axis.named(labels[name]) for name in axes for axis in self.axes if axis.name == name
        )

    def names(self, axis: str) -> list[Any]:
        """The values of an axis (or `size`) in file order."""
        return self.trials[axis].unique().tolist()

    def metric(self, name: str) -> pd.DataFrame:
        return self.metrics(lambda metric: metric == name)

    def metrics(self, wanted: Callable[[str], bool], *columns: str) -> pd.DataFrame:
        """The points of the metrics that are wanted: a part, if they are millions.

        All columns, or only some: those that are not needed take most of the time.
        """
        metric, names = numbered(self.points["metric"])
        among = np.array([wanted(name) for name in names], dtype=bool)
        points = self.points[list(columns)] if columns else self.points
        return points if among.all() else points.take(np.flatnonzero(among[metric]))

    def labelled(self, points: pd.DataFrame) -> pd.DataFrame:
        """Some of the points, with their trials' axes and sizes beside them."""
        labels = [*(axis.name for axis in self.axes), "size"]
        return labelled(points, self.trials.set_index("trial")[labels])

    @cached_property
    def ends(self) -> Frame:
        """With the points at step 0 alone, and at the last steps of completed and planned training.

        These are few of millions. A trial's own last step still has to be chosen among them.
        """
        done = self.trials.loc[self.trials["state"] == State.DONE, "step"]
        steps = {0, *map(int, done), *map(int, self.trials["steps"])}
        step = self.points["step"].to_numpy()
        # "sort" compares with each of a few in turn: 9 times as fast as pandas.
        rows = np.flatnonzero(np.isin(step, sorted(steps), kind="sort"))
        return replace(self, points=self.points.take(rows))

    def evaluation_sets(self) -> list[str]:
        """The evaluation sets of all trials, in file order."""
        return list(dict.fromkeys(name for names in self.trials["evaluate"] for name in names))

    def sets_by_task(self, scored: Iterable[tuple[str, str]] = ()) -> dict[str, set[str]]:
        """The evaluation sets of each task, in file order, and those `scored` (trial, set)."""
        tasks = dict(zip(self.trials["trial"], self.trials["task"], strict=True))
        found: dict[str, set[str]] = {task: set() for task in self.names("task")}
        for task, names in zip(self.trials["task"], self.trials["evaluate"], strict=True):
            found[task] |= set(names)
        for trial, name in scored:
            found[tasks[trial]].add(name)
        return found

    def states(self) -> dict[str, int]:
        """The number of trials in each state, ended ones first."""
        counts = self.trials["state"].value_counts()
        return {state.value: int(counts[state]) for state in State if state in counts}


def parts(frame: pd.DataFrame, *keys: str) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The rows grouped by some columns, in order of first appearance."""
    groups = frame.groupby(list(keys), sort=False, dropna=False, observed=True)
    return [(tuple(key), part) for key, part in groups]


def where(frame: pd.DataFrame, labels: Mapping[str, Any]) -> pd.DataFrame:
    """The rows with these values."""
    chosen = np.ones(len(frame), dtype=bool)
    for name, label in labels.items():
        chosen &= (frame[name] == label).to_numpy(dtype=bool)
    return frame if chosen.all() else frame[chosen]


def keyed(frame: pd.DataFrame, *keys: str) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Like `parts`, but with each group's values by column."""
    return [(dict(zip(keys, values, strict=True)), part) for values, part in parts(frame, *keys)]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def size_label(axes: Sequence[Axis], labels: Mapping[str, Any]) -> str:
    """Width and depth, as the backbone counts them: `w24 d2`."""
    sizes = [axis for axis in axes if axis.role == "size" and labels.get(axis.name) is not None]
    return " ".join(axis.brief(labels[axis.name]) for axis in sizes) or "as preset"


def in_words(row: Mapping[str, Any]) -> str:
    """A trial's state for a reader: `diverged at step 37`, `running, step 40 of 100`."""
    state, step = State(row["state"]), row["step"]
    return str(state) if step is None or math.isnan(step) else state.at(step, row["steps"])


def read_frame(plan: Plan, store: Store, readings: Iterator[Reading] | None = None) -> Frame:
    """Read every trial of the plan from the store. A trial that the store does not know is pending.

    No points are taken from a damaged trial: some would be missing, and a later attempt's would
    take the place of lost ones. `readings`: its trials, if reading them has begun.
    """
    with rarely_collected():
        return _frame_of(plan, readings or read_trials(store, [trial.id for trial in plan.trials]))


def _frame_of(plan: Plan, readings: Iterator[Reading]) -> Frame:
    rows: list[dict[str, Any]] = []
    points: list[Points | None] = []
    images: list[list[Any]] = []
    attempts: list[Attempt] = []
    recorded: dict[str, tuple[RunSpec, ...]] = {}
    damage: list[str] = []
    inputs: Inputs = {}
    looks: dict[str, Look] = {}
    names = [axis.name for axis in plan.axes]
    for trial, read in zip(plan.trials, readings, strict=True):
        look = looks[trial.id] = read.look
        if look.trained and look.state != State.PENDING:
            recorded[trial.id] = look.trained
        row = _trial_row(trial, plan.axes, look)
        damage += map(str, read.damaged)
        attempts += look.tried
        labels = [trial.id, *(row[name] for name in names), row["size"]]
        is_whole = look.state != State.DAMAGED
        # Evaluations are separate files, so they count even if the trial is damaged.
        scores = (*(read.trained if is_whole else ()), *read.evaluated)
        of_networks = take(inputs, row["task"], trial.spec, scores)
        images += [[*labels, *astuple(score)] for score in of_networks]
        found = read.points if is_whole and len(read.points) else None
        points.append(found)
        if row["step"] is None and found is not None:
            # Without a result, a trial is at the last step that it journalled.
            row["step"] = int(found.step.max())
        row["seconds"] = None if found is None else float(np.ptp(found.time))
        if found is not None and COUNTED in found.metrics:
            # Planning cannot count those of a norm from outside.
            counted = found.value[found.metric == found.metrics.index(COUNTED)]
            row["parameters"] = int(counted[-1])
        rows.append(row)
    trials = pd.DataFrame(rows)
    scored = pd.DataFrame(images, columns=["trial", *names, "size", *SCORE_COLUMNS])
    return Frame(
        trials,
        point_rows([row["trial"] for row in rows], points),
        tuple(attempts),
        recorded,
        tuple(damage),
        looks,
        plan.axes,
        scored,
        inputs=inputs,
    )


def _smaller_micro_batch(tried: Sequence[Attempt]) -> str:
    """`micro-batch 2` if the newest attempt's was smaller than the first one's, else "".

    CUDA running out of memory halves it (decision 12).
    """
    sizes = [
        size
        for attempt in tried
        if (size := attempt.get("placement", {}).get("micro_batch")) is not None
    ]
    return f"micro-batch {sizes[-1]}" if sizes and sizes[-1] < sizes[0] else ""


def _trial_row(trial: Trial, axes: Sequence[Axis], look: Look) -> dict[str, Any]:
    result = look.result if look.state.has_result else None
    failure = (
        look.failure if look.state in (State.FAILED, State.INFEASIBLE, State.INTERRUPTED) else None
    )
    workers = dict.fromkeys(spec.placement.workers for spec in look.trained or (trial.spec,))
    evaluated = [name for spec in (trial.spec, *look.trained) for name in spec.observe.evaluate]
    return {
        "trial": trial.id,
        "name": trial.name,
        **{axis.name: trial.axes.get(axis.name) for axis in axes},
        "size": size_label(axes, trial.axes),
        "parameters": trial.parameters,
        "state": look.state.value,
        "reason": "; ".join([*([failure["message"]] if failure else []), *map(str, look.damaged)]),
        "step": stopped_at(result) if result else None,
        "steps": trial.spec.training.steps,
        "workers": ", then ".join(map(str, workers)),
        "attempts": len(look.attempts),
        "micro_batch": _smaller_micro_batch(look.tried),
        "evaluate": tuple(dict.fromkeys(evaluated)),
    }
