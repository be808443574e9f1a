"""The port of trackers: where people look at the runs of a sweep while it trains and afterwards.

A tracker shows one sweep as an experiment, in which one run stands for the sweep itself and carries
its report, and each trial has a run below that one. The nights of its gate are another experiment,
with one run per night. It mirrors the store and is never a source, so whatever it loses can be sent
again. `orchestrator.tracking.mirror` decides what is
sent and when; a tracker only keeps it. `tests/contract/test_trackers.py` checks the promises below
for every tracker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from orchestrator.errors import EnvironmentProblem

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Kind = Literal["trial", "night"]  # what the runs of an experiment stand for
SYNC = "sync FILE"  # hinted at in messages; a run puts the whole command in its place


class TrackingUnavailable(EnvironmentProblem):
    """The tracker does not answer.

    Training can go on: `normsweep sync FILE` brings the tracker up to date from the store later.
    """


class Value(NamedTuple):
    """One value of a metric; `time_ms` is when it was journalled, in ms since 1970."""

    metric: str
    step: int
    value: float
    time_ms: int


@dataclass(frozen=True)
class DataSet:
    """A data set that a trial was trained on, or is evaluated on; `sha256` is its manifest's."""

    name: str
    sha256: str
    context: Literal["training", "evaluation"]


@dataclass(frozen=True)
class Run:
    """The run of a trial or a night, as a tracker has it."""

    id: str
    status: RunStatus
    tags: Mapping[str, str]


class Tracker(ABC):
    """One sweep, or the nights of its gate, in a tracker.

    The constructor takes `(uri, experiment, question, kind)`, connects to nothing, and raises
    UserError if the address is not valid. Where the runs are those of nights, a night's date stands
    below for the id of a trial.

    Every method raises TrackingUnavailable if the tracker does not answer, and can then be called
    again. What somebody deleted in the tracker is restored when it is needed, rather than made a
    second time; `notes` collects sentences on what was restored.
    """

    notes: list[str]

    @abstractmethod
    def open(self) -> dict[str, Run]:
        """The runs of the sweep's trials, by trial; the experiment is made if missing."""

    @abstractmethod
    def preset(self, params: Sequence[str], metrics: Sequence[str]) -> None:
        """Let tables of the runs begin with these columns, where the tracker has tables."""

    @abstractmethod
    def link(self, run_id: str = "") -> str | None:
        """The page of all runs, or of one, if the tracker has pages and something serves them."""

    @abstractmethod
    def find_or_create(
        self, trial_id: str, name: str, started_ms: int, tags: Mapping[str, str]
    ) -> Run:
        """The trial's run, RUNNING if new. There is one per trial, whichever process asks first."""

    @abstractmethod
    def describe(
        self, run_id: str, params: Mapping[str, str], data: Sequence[DataSet] = ()
    ) -> None:
        """Record what a trial was trained with and on, and put its run below the sweep's.

        Params that the run has already are left as they are, whatever their values.
        """

    @abstractmethod
    def log(self, run_id: str, values: Sequence[Value]) -> None:
        """Add values. One that was sent before adds nothing."""

    @abstractmethod
    def log_file(self, run_id: str, path: str, content: bytes) -> None:
        """Keep a file among the run's artifacts, replacing the one at that path; parts are `/`."""

    @abstractmethod
    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags, replacing those of the same names."""

    @abstractmethod
    def set_status(self, run_id: str, status: RunStatus, ended_ms: int | None = None) -> None:
        """Record that a run goes on (RUNNING), or how it ended, at `ended_ms` or now."""

    @abstractmethod
    def log_report(self, files: Mapping[str, str]) -> None:
        """Keep the report's texts, by file name, in the sweep's own run, replacing older ones."""
