"""The data sets of a sweep, as its tasks take them: alone, in pairs, or with given LR images."""

from __future__ import annotations

from collections.abc import Callable, Collection

from orchestrator.plan.source import Location, written
from orchestrator.plan.sweep import Data
from trainers.catalog import TASKS
from trainers.choice import Choice
from trainers.data.given import given_scale, scale_of, with_given
from trainers.data.manifests import DatasetProblem, ImageSet

TRAIN: Location = ("data", "train")


class DataSets:
    """The sets that `data` names; problems go to `problem`, with their place in the file."""

    def __init__(
        self,
        data: Data,
        find: Callable[[str], ImageSet],
        problem: Callable[[Location, str], None],
        places: Collection[Location],
    ) -> None:
        """`places` are those of the sweep file: what is at none of them is a default."""
        self._problem = problem
        self._places = places
        self._found: dict[Location, ImageSet] = {}
        # Of the training set, by scale and whether its LR images are given.
        self._checksums: dict[tuple[int, bool], tuple[str, tuple[tuple[Location, str], ...]]] = {}
        named: list[tuple[Location, str]] = [
            (("data", "evaluate", i), name) for i, name in enumerate(data.evaluate)
        ]
        for location, name in [(TRAIN, data.train), *named]:
            try:
                self._found[location] = find(name)
            except DatasetProblem as error:
                problem(location, str(error))
            else:
                if name == data.train and location != TRAIN:
                    problem(location, f"{name!r} is the training set: scores on it mean nothing")

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks about files that are among the sets' images and left out."""
        return tuple(dict.fromkeys(note for found in self._found.values() for note in found.notes))

    def train_sha256(self, task: Choice, task_at: Location) -> str:
        """The checksum of the training set as `task` takes it; "" if it is missing or unsuitable.

        The evaluation sets are checked as well. What is wrong with a set that the file does not
        name is reported at the task, in `task_at`.
        """
        facts = TASKS[task.name].facts
        if facts.get("pairs"):
            for location, found in self._found.items():
                if not found.lq_files:
                    message = (
                        f"task {task.name} needs pairs, input/ and target/, "
                        f"which {found.name!r} lacks: name a set of pairs as "
                        f"`{written(location[:2])}`"
                    )
                    if other := facts.get("without_pairs"):
                        message += f", or use the task {other}, which needs none"
                    self._report(location, message, task_at)
        as_taken = scale_of(task), given_scale(task) is not None
        if as_taken not in self._checksums:
            self._checksums[as_taken] = self._taken(*as_taken)
        sha256, problems = self._checksums[as_taken]
        for location, message in problems:
            self._report(location, message, task_at)
        return sha256

    def _report(self, location: Location, message: str, task_at: Location) -> None:
        named = any(location[:length] in self._places for length in range(1, len(location) + 1))
        self._problem(location if named else task_at, message)

    def _taken(self, scale: int, given: bool) -> tuple[str, tuple[tuple[Location, str], ...]]:
        """The training set's checksum, and the problems of all sets with their places."""
        sha256, problems = "", []
        for location, found in self._found.items():
            try:
                taken = with_given(found, scale) if given else found.at_scale(scale)
            except DatasetProblem as error:
                problems.append((location, str(error)))
            else:
                sha256 = taken.sha256 if location == TRAIN else sha256
        return sha256, tuple(problems)
