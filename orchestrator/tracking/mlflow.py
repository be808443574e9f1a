"""The MLflow tracker: an experiment per sweep, with a run for the sweep and one per trial below it.

The only file that imports mlflow.

MLflow's key for a value includes its time, so sending a value again adds nothing. A run is looked
up by its tag, `normsweep.trial` or `normsweep.night`, before it is created. What somebody deleted
in MLflow is restored, since MLflow keeps the name and would refuse a second one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

# Before the import of mlflow, which starts its telemetry.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import logging

import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import (
    Experiment,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.hints import hint
from orchestrator.tracking.address import Address, about_access, parse
from orchestrator.tracking.base import (
    SYNC,
    DataSet,
    Kind,
    RunStatus,
    Tracker,
    TrackingUnavailable,
    Value,
)
from orchestrator.tracking.base import Run as TrackedRun
from orchestrator.tracking.data import beside_others, log_data, unrepeated
from orchestrator.tracking.sqlite import Unusable, alone, artifacts_beside, bring_home, prepare
from orchestrator.tracking.views import TAG as VIEW
from orchestrator.tracking.views import runs_link, saved_view

MOST_METRICS, MOST_PARAMS = 1_000, 100  # MLflow's limits for one log_batch
LONGEST_PARAM = 6_000
# Tags by which runs are found.
TAGS: Mapping[Kind, str] = {"trial": "normsweep.trial", "night": "normsweep.night"}
# The run of a sweep, which carries its report. Older versions named it `report`.
REPORT, OLD_NAME = "normsweep.report", "report"
PARENT, SOURCE = "mlflow.parentRunId", "mlflow.source.name"
NOTE = "mlflow.note.content"
FAILURES = (
    MlflowException,
    requests.RequestException,
    SQLAlchemyError,
    sqlite3.Error,
    OSError,
    Unusable,
)

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it logs, it raises


class MlflowTracker(Tracker):
    """One sweep's experiment in MLflow: a local database, or a server."""

    def __init__(self, uri: str, sweep: str, question: str = "", kind: Kind = "trial") -> None:
        self._tag = TAGS[kind]
        self._address = parse(uri)
        self._address.sign_in()
        self._sweep = sweep
        self._question = question
        self._parent: Run | None = None
        self._params: dict[str, Mapping[str, str]] = {}  # by run, as found
        self.notes: list[str] = []

    def open(self) -> dict[str, TrackedRun]:
        self._parent = None
        with self._mapped():
            self._client, self._experiment, is_restored = _open(
                self._address, self._sweep, self._question
            )
            if is_restored:
                said = f"The experiment {self._sweep} was deleted in MLflow; it has been restored."
                self.notes.append(said)
            runs: dict[str, Run] = {}
            for run in _all_runs(self._client, self._experiment):
                trial_id = run.data.tags.get(self._tag)
                if trial_id and (trial_id not in runs or _place(run) < _place(runs[trial_id])):
                    runs[trial_id] = run
            self._params = {run.info.run_id: run.data.params for run in runs.values()}
            return {trial_id: _tracked(self._restored(run)) for trial_id, run in runs.items()}

    def preset(self, params: Sequence[str], metrics: Sequence[str]) -> None:
        """Save a view of the experiment, unless it has one, which somebody may have changed."""
        with self._mapped():
            found = self._client.get_experiment(self._experiment)
            if VIEW not in found.tags:
                made = found.creation_time or 0
                view = saved_view(self._sweep, params, metrics, self._tag, made)
                self._client.set_experiment_tag(self._experiment, VIEW, view)

    def link(self, run_id: str = "") -> str | None:
        server = self._address.uri if self._address.is_server else None
        return server and runs_link(server, self._experiment, run=run_id)

    def find_or_create(
        self, trial_id: str, name: str, started_ms: int, tags: Mapping[str, str]
    ) -> TrackedRun:
        # Locked, so that no other local process creates the run between the search and the call.
        with self._mapped(), alone(self._address.database):
            found = self._find(self._tag, trial_id)
            if found is None:
                tags = {self._tag: trial_id, SOURCE: "normsweep", **tags}
                with unrepeated():
                    found = self._client.create_run(
                        self._experiment, start_time=started_ms, tags=tags, run_name=name
                    )
            self._params[found.info.run_id] = found.data.params
            return _tracked(found)

    def describe(
        self, run_id: str, params: Mapping[str, str], data: Sequence[DataSet] = ()
    ) -> None:
        with self._mapped():
            with alone(self._address.database):
                below = RunTag(PARENT, self._sweeps_own().info.run_id)
            there = self._params.get(run_id, {})
            new = [
                Param(name, value[:LONGEST_PARAM])
                for name, value in params.items()
                if name not in there
            ]
            for start in range(0, max(len(new), 1), MOST_PARAMS):
                part = new[start : start + MOST_PARAMS]
                send = partial(self._client.log_batch, run_id, params=part, tags=[below])
                beside_others(send)
            if data:
                log_data(self._client, run_id, data)

    def log(self, run_id: str, values: Sequence[Value]) -> None:
        metrics = [Metric(v.metric, v.value, v.time_ms, v.step) for v in values]
        with self._mapped():
            for start in range(0, len(metrics), MOST_METRICS):
                self._client.log_batch(run_id, metrics=metrics[start : start + MOST_METRICS])

    def log_file(self, run_id: str, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        # MLflow sends bytes only from a file, and names the artifact after it.
        with self._mapped(), tempfile.TemporaryDirectory() as aside:
            file = Path(aside, name)
            file.write_bytes(content)
            self._client.log_artifact(run_id, str(file), folder or None)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        with self._mapped():
            for name, value in tags.items():
                beside_others(partial(self._client.set_tag, run_id, name, value))

    def set_status(self, run_id: str, status: RunStatus, ended_ms: int | None = None) -> None:
        with self._mapped():
            if status == "RUNNING":
                self._client.update_run(run_id, status=status)
            else:
                self._client.set_terminated(run_id, status, end_time=ended_ms)

    def log_report(self, files: Mapping[str, str]) -> None:
        with self._mapped():
            with alone(self._address.database):
                run_id = self._sweeps_own().info.run_id
            for name, text in files.items():
                self._client.log_text(run_id, text, name)
            self._client.set_terminated(run_id, "FINISHED")

    def _sweeps_own(self) -> Run:
        """The run that stands for the sweep. Its status says nothing: the trials' do."""
        if self._parent is None:
            found = self._find(REPORT, self._sweep)
            if found is None:
                tags = {REPORT: self._sweep, SOURCE: "normsweep", NOTE: self._question}
                with unrepeated():
                    found = self._client.create_run(
                        self._experiment, tags=tags, run_name=self._sweep
                    )
                self._client.set_terminated(found.info.run_id, "FINISHED")
            elif found.info.run_name == OLD_NAME:
                self._client.update_run(found.info.run_id, name=self._sweep)
            self._parent = found
        return self._parent

    def _find(self, tag: str, value: str) -> Run | None:
        found = self._client.search_runs(
            [self._experiment], f"tags.`{tag}` = '{value}'", run_view_type=ViewType.ALL
        )
        return self._restored(min(found, key=_place)) if found else None

    def _restored(self, run: Run) -> Run:
        if _is_deleted(run):
            self._client.restore_run(run.info.run_id)
            self.notes.append(
                f"The run {run.info.run_name} was deleted in MLflow; it has been restored."
            )
        return run

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn whatever MLflow and the libraries below it raise into TrackingUnavailable."""
        try:
            yield
        except FAILURES as error:
            line = _first_line(error)
            raise TrackingUnavailable(
                f"MLflow at {self._address.shown} cannot be used: {line}\n{about_access(line)}"
                f"The store has everything; once MLflow answers, `{hint(SYNC)}` sends the rest."
            ) from error


def _tracked(run: Run) -> TrackedRun:
    return TrackedRun(run.info.run_id, run.info.status, run.data.tags)


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.partition(" Response body: '<")[0][:300]  # without the HTML of an error page


def _is_deleted(run: Run) -> bool:
    return bool(run.info.lifecycle_stage == LifecycleStage.DELETED)


def _place(run: Run) -> tuple[bool, int]:
    """Sorts runs of one trial: not deleted first, then by what they have. A late twin is empty."""
    return _is_deleted(run), -len(run.data.metrics)


def connected(address: Address) -> MlflowClient:
    """A client of MLflow.

    Raises Unusable or SQLAlchemyError at once if a database cannot be used; MLflow would try to
    connect ten times, for 100 s.
    """
    if address.database is not None:
        prepare(address.database, MlflowClient)
    elif (
        not address.is_server and "://" in address.uri and not address.uri.startswith("databricks")
    ):
        sqlalchemy.create_engine(address.uri, poolclass=sqlalchemy.NullPool).connect().close()
    return MlflowClient(address.uri)


def _open(address: Address, sweep: str, question: str) -> tuple[MlflowClient, str, bool]:
    """A client, the id of the sweep's experiment, and whether the experiment had to be restored."""
    location = None
    if address.database is not None:
        location = artifacts_beside(address.database, sweep)
    # If several processes open a new SQLite database at once, all but one fail in its migrations.
    with alone(address.database):
        client = connected(address)
        if address.database is not None:
            bring_home(address.database)
        found = client.get_experiment_by_name(sweep)
        if found is not None:
            return client, found.experiment_id, _restore(client, found)
        # The kind makes the UI open on runs and charts instead of on traces of language models.
        tags = {NOTE: question, "mlflow.experimentKind": "custom_model_development"}
        return client, client.create_experiment(sweep, artifact_location=location, tags=tags), False


def _restore(client: MlflowClient, experiment: Experiment) -> bool:
    """Restore the experiment if it has been deleted; True if it had been.

    Raises MlflowException, which says what to do, if it cannot be restored.
    """
    if experiment.lifecycle_stage != LifecycleStage.DELETED:
        return False
    try:
        client.restore_experiment(experiment.experiment_id)
    except MlflowException as error:
        raise MlflowException(
            f"its experiment {experiment.name} is deleted and cannot be restored from here: "
            f"{_first_line(error)} Restore it with `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}`."
        ) from error
    return True


def deleted_experiments(address: Address) -> list[tuple[str, int | None]]:
    """The same as `sqlite.deleted`, for a server or another database.

    Raises TrackingUnavailable, whose message is one line.
    """
    try:
        client = connected(address)
        experiments = {
            found.experiment_id: found for found in client.search_experiments(ViewType.ALL)
        }
        runs = client.search_runs(
            list(experiments), "tags.`normsweep.trial` LIKE '%'", ViewType.DELETED_ONLY
        )
    except FAILURES as error:
        raise TrackingUnavailable(f"{address.shown}: {_first_line(error)}") from error
    counted = Counter(run.info.experiment_id for run in runs)
    return [
        (
            experiments[key].name,
            None if experiments[key].lifecycle_stage == LifecycleStage.DELETED else number,
        )
        for key, number in counted.items()
    ]


def experiments(address: Address) -> list[tuple[str, str, bool]]:
    """The same as `sqlite.experiments`, of those that have our saved view."""
    try:
        found = connected(address).search_experiments(order_by=["last_update_time DESC"])
    except FAILURES as error:
        raise TrackingUnavailable(f"{address.shown}: {_first_line(error)}") from error
    return [(one.experiment_id, one.name, True) for one in found if VIEW in one.tags]


def _all_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    """All runs of an experiment, including deleted ones."""
    token = None
    while True:
        page = client.search_runs(
            [experiment], run_view_type=ViewType.ALL, max_results=1_000, page_token=token
        )
        yield from page
        if not (token := page.token):
            return
