"""The data sets of a sweep, as its tasks take them: alone, in pairs, or with given LR images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.plan.data import FieldName, Named, Sets, keys_given, keys_of, sets_named
from orchestrator.plan.source import Location, Source
from trainers.catalog import TASKS
from trainers.choice import Choice
from trainers.data.given import given_scale, scale_of, with_given
from trainers.data.manifests import DatasetProblem, ImageSet

FIELDS: Mapping[FieldName, str] = {"train": "training set", "evaluate": "evaluation sets"}


@dataclass(frozen=True)
class Taken:
    """The sets of one task: names, and the checksum of the training set as the task takes it."""

    train: str
    train_sha256: str
    evaluate: tuple[str, ...]


class DataSets:
    """The sets that `data` names for these tasks, given by label with all their knobs.

    Problems go to `problem`, with their place in the file: that of a set's name, or, for a set that
    a task has by default, the task's, which `tasks_at` gives. `places` are all that the file has.
    """

    def __init__(
        self,
        data: Sets,
        tasks: Mapping[str, Choice],
        find: Callable[[str], ImageSet],
        problem: Callable[[Location, str], None],
        *,
        tasks_at: Mapping[str, Location],
        places: Collection[Location],
    ) -> None:
        self._tasks_at = tasks_at
        self._places = places
        self._data = data
        self._tasks = tasks
        self._problem = problem
        self._named = {label: sets_named(data, task) for label, task in tasks.items()}
        self._found: dict[str, ImageSet | DatasetProblem] = {}  # by name
        self._taken: dict[str, Taken | None] = {}  # by a task's label
        for named in self._named.values():
            for location, name in named.places:
                self._find(location, name, find)
                if name == named.train and location != named.train_at:
                    problem(location, f"{name!r} is the training set: scores on it mean nothing")

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks about files that are among the sets' images and left out."""
        found = (one for one in self._found.values() if isinstance(one, ImageSet))
        return tuple(dict.fromkeys(note for one in found for note in one.notes))

    @property
    def evaluated(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the evaluation sets, by a task's label."""
        return {label: named.evaluate for label, named in self._named.items()}

    @property
    def checksums(self) -> Mapping[str, str]:
        """The checksum of each evaluation set's manifest, by name."""
        names = {name for named in self._named.values() for name in named.evaluate}
        found = {name: self._found[name] for name in sorted(names)}
        return {name: one.sha256 for name, one in found.items() if isinstance(one, ImageSet)}

    def remarks(self, source: Source) -> Iterator[str]:
        """What a file with sets by task may not mean: sets that no trial uses, and defaults."""
        return (source.noted(location, message) for location, message in self._remarks())

    def _remarks(self) -> Iterator[tuple[Location, str]]:
        keys = keys_given(self._data)
        used = {at for named in self._named.values() for at in (named.train_at, named.evaluate_at)}
        for key in keys:
            if not any(key in keys_of(self._data, task) for task in self._tasks.values()):
                yield ("data", key), "no trial of this sweep has this task: its sets are not used"
                used |= {("data", key, name) for name in FIELDS}
        parts: list[tuple[Location, Sets]] = [(("data",), self._data)] if keys else []
        parts += [(("data", key), getattr(self._data, key)) for key in keys]
        for location, part in parts:
            for name, what in FIELDS.items():
                if name in part.model_fields_set and (*location, name) not in used:
                    message = f"is not used: every task that it is for has its own {what}"
                    yield (*location, name), message
        for label, named in self._named.items() if keys else ():
            if named.defaults:
                yield ("data",), _falling_back(label, named)

    def of(self, label: str) -> Taken | None:
        """The sets of a task; None if one is missing or unsuitable, which is reported."""
        if label not in self._taken:
            self._taken[label] = self._taken_by(label)
        return self._taken[label]

    def _find(self, location: Location, name: str, find: Callable[[str], ImageSet]) -> None:
        if name not in self._found:
            try:
                self._found[name] = find(name)
            except DatasetProblem as error:
                self._found[name] = error
        if isinstance(found := self._found[name], DatasetProblem):
            self._problem(location, str(found))

    def _taken_by(self, label: str) -> Taken | None:
        sha256, task, named = "", self._tasks[label], self._named[label]
        for location, name in named.places:
            found, is_own = self._found[name], location[1] not in FIELDS
            is_written = any(location[:i] in self._places for i in range(1, len(location) + 1))
            at = location if is_written else self._tasks_at[label]
            if isinstance(found, DatasetProblem):
                continue
            if why := lacks_pairs(found, task):
                own = f"`data: {{{task.name}: {{train: ..., evaluate: [...]}}}}` gives it its own"
                other = TASKS[task.name].facts.get("without_pairs")
                hint = f"; the task {other} needs none" if other else ""
                self._problem(at, f"{why if is_own else f'{why}; {own}'}{hint}")
            try:
                taken = as_taken(found, task)
            except DatasetProblem as error:
                self._problem(at, str(error))
            else:
                sha256 = taken.sha256 if location == named.train_at else sha256
        return Taken(named.train, sha256, named.evaluate) if sha256 else None


def as_taken(found: ImageSet, task: Choice) -> ImageSet:
    """A set as a task takes it: of its scale, or with given LR images. Raises DatasetProblem."""
    scale = given_scale(task)
    return found.at_scale(scale_of(task)) if scale is None else with_given(found, scale)


def needs_pairs(task: Choice) -> bool:
    """Whether the task takes a set's own pairs."""
    return bool(TASKS[task.name].facts.get("pairs"))


def lacks_pairs(found: ImageSet, task: Choice) -> str:
    """What is wrong if a task of pairs is given a set without any; else ""."""
    if found.lq_files or not needs_pairs(task):
        return ""
    return f"task {task.name} needs pairs, input/ and target/, which {found.name!r} lacks"


def _falling_back(label: str, named: Named) -> str:
    """The remark on a task that takes a default: a training set, evaluation sets or both."""
    scored, *_ = (*named.evaluate, "no set")
    said = {"train": f"trained on {named.train}", "evaluate": f"scored on {scored}"}
    words = " and ".join(said[name] for name in named.defaults)
    if named.defaults == ("train",):
        return f"no training set is given for {label}: it is {words}"
    if named.defaults == ("evaluate",):
        return f"no evaluation sets are given for {label}: it is {words}"
    return f"no sets are given for {label}: it is {words}"
