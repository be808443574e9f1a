"""A tracker in this process's memory: nothing to install, nothing left behind.

It is used with `--tracking memory:NAME`. It keeps every promise of the port, so it serves runs
whose curves nobody needs, and tests of what is sent. All trackers with the same name share what
they hold, until the process ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.tracking.base import DataSet, Kind, Run, RunStatus, Tracker, Value


@dataclass
class Experiment:
    """The runs of a sweep by trial; what each run has, by id; the report; a table's columns."""

    runs: dict[str, Run] = field(default_factory=dict)
    values: dict[str, dict[tuple[str, int, int], float]] = field(default_factory=dict)
    files: defaultdict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    params: dict[str, Mapping[str, str]] = field(default_factory=dict)
    data: dict[str, Sequence[DataSet]] = field(default_factory=dict)
    columns: tuple[Sequence[str], Sequence[str]] = ((), ())
    ended_ms: dict[str, int | None] = field(default_factory=dict)
    report: dict[str, str] = field(default_factory=dict)


EXPERIMENTS: defaultdict[tuple[str, str], Experiment] = defaultdict(Experiment)


class MemoryTracker(Tracker):
    """One sweep, at an address `memory:NAME`."""

    def __init__(self, uri: str, sweep: str, question: str = "", kind: Kind = "trial") -> None:
        self.notes: list[str] = []
        self.experiment = EXPERIMENTS[uri, sweep]

    def open(self) -> dict[str, Run]:
        return dict(self.experiment.runs)

    def preset(self, params: Sequence[str], metrics: Sequence[str]) -> None:
        self.experiment.columns = params, metrics

    def link(self, run_id: str = "") -> str | None:
        return None

    def find_or_create(
        self, trial_id: str, name: str, started_ms: int, tags: Mapping[str, str]
    ) -> Run:
        run = Run(trial_id, "RUNNING", dict(tags))
        self.experiment.values.setdefault(trial_id, {})
        return self.experiment.runs.setdefault(trial_id, run)

    def describe(
        self, run_id: str, params: Mapping[str, str], data: Sequence[DataSet] = ()
    ) -> None:
        self.experiment.params[run_id] = {**params, **self.experiment.params.get(run_id, {})}
        self.experiment.data[run_id] = data

    def log(self, run_id: str, values: Sequence[Value]) -> None:
        self.experiment.values[run_id] |= {(v.metric, v.step, v.time_ms): v.value for v in values}

    def log_file(self, run_id: str, path: str, content: bytes) -> None:
        self.experiment.files[run_id][path] = content

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._replace(run_id, tags={**self.experiment.runs[run_id].tags, **tags})

    def set_status(self, run_id: str, status: RunStatus, ended_ms: int | None = None) -> None:
        self.experiment.ended_ms[run_id] = ended_ms
        self._replace(run_id, status=status)

    def log_report(self, files: Mapping[str, str]) -> None:
        self.experiment.report |= files

    def _replace(self, run_id: str, **changes: object) -> None:
        runs = self.experiment.runs
        runs[run_id] = replace(runs[run_id], **changes)  # type: ignore[arg-type]
