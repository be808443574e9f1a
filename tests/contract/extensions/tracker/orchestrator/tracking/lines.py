"""A tracker in a file of lines of JSON, for `grep` and `jq`. `--tracking lines:PATH`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.tracking.base import DataSet, Kind, Run, RunStatus, Tracker, Value


class LinesTracker(Tracker):
    """Whatever is sent is a line of the file."""

    def __init__(self, uri: str, sweep: str, question: str = "", kind: Kind = "trial") -> None:
        self.notes: list[str] = []
        self._path = Path(uri.partition(":")[2])
        self._sweep = sweep
        self._runs: dict[str, Run] = {}

    def open(self) -> dict[str, Run]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        for kind, run_id, content in map(json.loads, lines):
            if kind == "tags":
                run = self._runs.get(run_id, Run(run_id, "RUNNING", {}))
                self._runs[run_id] = replace(run, tags={**run.tags, **content})
            elif kind == "status":
                self._runs[run_id] = replace(self._runs[run_id], status=content)
        return dict(self._runs)

    def preset(self, params: Sequence[str], metrics: Sequence[str]) -> None:
        """A file has no columns."""

    def link(self) -> str | None:
        return None

    def find_or_create(
        self, trial_id: str, name: str, started_ms: int, tags: Mapping[str, str]
    ) -> Run:
        if trial_id not in self._runs:
            self.set_tags(trial_id, tags)
        return self.open()[trial_id]

    def describe(
        self, run_id: str, params: Mapping[str, str], data: Sequence[DataSet] = ()
    ) -> None:
        self._keep("params", run_id, params)
        for one in data:
            self._keep(one.context, run_id, [one.name, one.sha256])

    def log(self, run_id: str, values: Sequence[Value]) -> None:
        """Equal lines are one value: what was sent before adds nothing."""
        for value in values:
            self._keep("value", run_id, value)

    def log_file(self, run_id: str, path: str, content: bytes) -> None:
        self._keep("file", run_id, [path, len(content)])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._keep("tags", run_id, tags)

    def set_status(self, run_id: str, status: RunStatus, ended_ms: int | None = None) -> None:
        self._keep("status", run_id, status)

    def log_report(self, files: Mapping[str, str]) -> None:
        self._keep("report", self._sweep, files)

    def _keep(self, kind: str, run_id: str, content: object) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([kind, run_id, content]) + "\n")
