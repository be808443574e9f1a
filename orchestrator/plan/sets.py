"""The data sets of a sweep, as its tasks take them: alone, in pairs, or with given LR images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.plan.source import Location
from orchestrator.plan.sweep import Data
from trainers.catalog import TASKS
from trainers.choice import Choice
from trainers.data.given import given_scale, scale_of, with_given
from trainers.data.manifests import DatasetProblem, ImageSet

TRAIN: Location = ("data", "train")


class DataSets:
    """The sets that `data` names; problems go to `problem`, with their place in the file."""

    def __init__(
        self, data: Data, find: Callable[[str], ImageSet], problem: Callable[[Location, str], None]
    ) -> None:
        self._problem = problem
        self._found: dict[Location, ImageSet] = {}
        # Of the training set, by scale and whether its LR images are given.
        self._checksums: dict[tuple[int, bool], str] = {}
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

    @property
    def evaluated(self) -> Mapping[str, str]:
        """The checksum of each evaluation set's manifest, by name."""
        return {
            found.name: found.sha256 for location, found in self._found.items() if location != TRAIN
        }

    def train_sha256(self, task: Choice) -> str:
        """The checksum of the training set as `task` takes it; "" if it is missing or unsuitable.

        The evaluation sets are checked as well.
        """
        if TASKS[task.name].facts.get("pairs"):
            for location, found in self._found.items():
                if not found.lq_files:
                    message = (
                        f"task {task.name} needs pairs, input/ and target/, "
                        f"which {found.name!r} lacks"
                    )
                    self._problem(location, message)
        as_taken = scale_of(task), given_scale(task) is not None
        if as_taken not in self._checksums:
            self._checksums[as_taken] = self._taken(*as_taken)
        return self._checksums[as_taken]

    def _taken(self, scale: int, given: bool) -> str:
        sha256 = ""
        for location, found in self._found.items():
            try:
                taken = with_given(found, scale) if given else found.at_scale(scale)
            except DatasetProblem as error:
                self._problem(location, str(error))
            else:
                sha256 = taken.sha256 if location == TRAIN else sha256
        return sha256
