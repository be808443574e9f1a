"""The data sets of a sweep, as each of its tasks takes them: alone, in pairs, or with the LR images that lie beside them."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.plan.source import Location
from orchestrator.plan.sweep import Data
from trainers.catalog import TASKS
from trainers.data.given import given_scale, with_given
from trainers.data.manifests import DatasetProblem, ImageSet
from trainers.spec import Choice

TRAIN: Location = ("data", "train")


class DataSets:
    """The sets that `data` names; what is wrong with one is given to `problem`, with its place in the file."""

    def __init__(self, data: Data, find: Callable[[str], ImageSet], problem: Callable[[Location, str], None]) -> None:
        self._problem = problem
        self._found: dict[Location, ImageSet] = {}
        self._given: dict[int, str] = {}  # by scale
        named: list[tuple[Location, str]] = [(("data", "evaluate", i), name) for i, name in enumerate(data.evaluate)]
        for location, name in [(TRAIN, data.train), *named]:
            try:
                self._found[location] = find(name)
            except DatasetProblem as error:
                problem(location, str(error))
            else:
                if name == data.train and location != TRAIN:
                    problem(location, f"{name!r} is the training set: scores on it say nothing")

    def train_sha256(self, task: Choice) -> str:
        """The checksum of the training set as `task` takes it; "" where it is not there or does not suit the task.

        Whether the evaluation sets suit it is looked at as well.
        """
        if TASKS[task.name].facts.get("pairs"):
            for location, found in self._found.items():
                if not found.lq_files:
                    message = f"task {task.name} needs pairs, input/ and target/, which {found.name!r} has not"
                    self._problem(location, message)
        scale = given_scale(task)
        if scale is None:
            return self._found[TRAIN].sha256 if TRAIN in self._found else ""
        if scale not in self._given:
            self._given[scale] = self._with_given(scale)
        return self._given[scale]

    def _with_given(self, scale: int) -> str:
        sha256 = ""
        for location, found in self._found.items():
            try:
                complete = with_given(found, scale)
            except DatasetProblem as error:
                self._problem(location, str(error))
            else:
                sha256 = complete.sha256 if location == TRAIN else sha256
        return sha256
