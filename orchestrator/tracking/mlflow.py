"""MLflow mirrors the store: one experiment per sweep, one run per trial. The only file that imports mlflow.

Only the driver writes, and only what it reads from the journals, with the journal's timestamps: MLflow's key of a point holds
its timestamp, so sending one again adds nothing. The run's tag `normsweep.cursor` says how far a trial was sent. Once it has been
sent to its end, `normsweep.result` holds the checksum of its result, and it is not looked at again. A run is found by its tag
`normsweep.trial` before it is made. What somebody deleted in MLflow is restored, since MLflow keeps its name and would refuse a
second one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import logging

import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan, Trial
from orchestrator.plan.states import State
from orchestrator.store import read_store
from orchestrator.store.attempts import read_attempts
from orchestrator.store.base import Store
from orchestrator.store.journals import JournalReader, Point
from orchestrator.store.listing import listed
from orchestrator.store.records import CHECKSUM, Damaged, Record
from orchestrator.store.results import stated_result
from orchestrator.store.trials import Look, glance
from orchestrator.tracking.address import Address, about_access, parse
from orchestrator.tracking.sqlite import Unusable, alone, artifacts_beside, bring_home, check_usable

MOST_METRICS = 1_000  # of one log_batch
STATUS = {
    State.DONE: "FINISHED",
    State.DIVERGED: "FINISHED",
    State.FAILED: "FAILED",
    State.INFEASIBLE: "FAILED",
    State.INTERRUPTED: "KILLED",
    State.DAMAGED: "KILLED",
}
RESULT = "normsweep.result"

FAILURES = (MlflowException, requests.RequestException, SQLAlchemyError, sqlite3.Error, OSError, Unusable)

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.WARNING)


class TrackingUnavailable(EnvironmentProblem):
    """MLflow does not answer. Training can go on: `normsweep sync FILE` catches up from the store."""


class Mirror:
    """One sweep's experiment. Every method raises TrackingUnavailable where MLflow does not answer.

    `notes` says what was restored. Also raises UserError for an address that is none.
    """

    def __init__(self, tracking_uri: str, plan: Plan) -> None:
        self._address = parse(tracking_uri)
        self._address.sign_in()
        self._plan = plan
        self._runs: dict[str, _Run] = {}
        self.notes: list[str] = []
        self._is_open = False
        with self._told():
            self._open()

    def sync(
        self,
        store: Store,
        trials: Iterable[Trial],
        *,
        reused: frozenset[str] = frozenset(),
        heard: frozenset[str] = frozenset(),
        looks: Mapping[str, Look] | None = None,
    ) -> None:
        """Send what is new in the store. Trials that were sent to their end are skipped.

        `reused` were done before this sweep came to them. `heard` are known to be alive, or to have
        been until a moment ago: they are not skipped. `looks`: what the trials are, if known.
        """
        with self._told():
            self._open()
            for trial in trials:
                run = self._runs.get(trial.id)
                look = (looks or {}).get(trial.id)
                if run is not None and look is not None and look.has_ended and run.has_all_of(look.result):
                    run.is_over = True
                if run is None or not run.is_over or trial.id in heard:
                    self._sync(store, trial, is_reused=trial.id in reused, is_heard=trial.id in heard)

    def log_report(self, files: Mapping[str, str]) -> None:
        """The report's files, by name, as artifacts of a run of its own, the same one each time."""
        with self._told():
            self._open()
            run = self._find_run("normsweep.report", self._plan.sweep)
            if run is None:
                tags = {"normsweep.report": self._plan.sweep}
                run = self._client.create_run(self._experiment, run_name="report", tags=tags)
            for name, text in files.items():
                self._client.log_text(run.info.run_id, text, name)
            self._client.set_terminated(run.info.run_id, "FINISHED")

    def _open(self) -> None:
        """Look again at what MLflow has, unless all went well since the last look."""
        if self._is_open:
            return
        self._client, experiment, is_restored = _open(self._address, self._plan)
        self._experiment: str = experiment
        if is_restored:
            self.notes.append(f"MLflow's experiment {self._plan.sweep} had been deleted there: it is restored.")
        runs: dict[str, Run] = {}
        for run in _all_runs(self._client, self._experiment):
            trial_id = run.data.tags.get("normsweep.trial")
            if trial_id and (trial_id not in runs or _is_deleted(runs[trial_id])):
                runs[trial_id] = run
        among = {trial.id for trial in self._plan.trials}
        self._runs = {key: _Run(self._restored(run)) for key, run in runs.items() if key in among}
        self._is_open = True

    def _find_run(self, tag: str, value: str) -> Run | None:
        found = self._client.search_runs([self._experiment], f"tags.`{tag}` = '{value}'", run_view_type=ViewType.ALL)
        return self._restored(min(found, key=_is_deleted)) if found else None

    def _restored(self, run: Run) -> Run:
        if _is_deleted(run):
            self._client.restore_run(run.info.run_id)
            self.notes.append(f"MLflow's run {run.info.run_name} had been deleted there: it is restored.")
        return run

    def _sync(self, store: Store, trial: Trial, *, is_reused: bool, is_heard: bool) -> None:
        """Costs one listing, and reads of what is new: segments, a result, else a sign of life."""
        listing = listed(store, trial.id)
        run = self._runs.get(trial.id)
        if run is None:
            attempts = read_attempts(store, trial.id, listing.attempts)
            if not attempts:
                return
            run = self._runs[trial.id] = self._find_or_create(trial, attempts, is_reused)
        if not run.is_described:
            self._describe(run, trial)
        run.is_over = listing.has_result and run.has_all_of(stated_result(store, trial.id))
        if run.is_over:
            return
        # Put back only when all it gave has arrived: otherwise the next call reads from the cursor on once more.
        reader, run.reader = run.reader or JournalReader(store), None
        if reader.checksums:  # a segment that came since the last call is a sign of life
            is_heard = is_heard or not all(reader.has_read(segment) for segment in listing.segments)
        fresh = [point for point in reader.new_points(listing.segments) if (point.attempt, point.seq) > run.cursor]
        if fresh:
            self._send(run, fresh)
        run.reader = reader
        look = glance(store, listing, heard=is_heard, checksums=reader.checksums)
        self._end(run, look)
        if look.has_ended and look.result is not None and not reader.is_behind:
            run.result = look.result[CHECKSUM]
            self._client.set_tag(run.id, RESULT, run.result)
            run.is_over, run.reader = True, None

    def _end(self, run: _Run, look: Look) -> None:
        """Tell MLflow whether the trial runs, or how and when it ended."""
        status = STATUS.get(look.state, "RUNNING")
        if status == run.status:
            return
        if status == "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
        else:
            outcome = look.result["outcome"] if look.result else look.state.value
            self._client.set_tag(run.id, "normsweep.outcome", outcome)
            ended = int(look.result["ended"] * 1000) if look.result else None
            self._client.set_terminated(run.id, status, end_time=ended)
        run.status = status

    def _send(self, run: _Run, points: list[Point]) -> None:
        metrics = [Metric(p.metric, p.value, round(p.time * 1000), p.step) for p in points]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(run.id, metrics=metrics[start : start + MOST_METRICS])
        run.cursor = max((p.attempt, p.seq) for p in points)
        self._client.set_tag(run.id, "normsweep.cursor", "{}/{}".format(*run.cursor))

    def _find_or_create(self, trial: Trial, attempts: list[dict[str, Any]], is_reused: bool) -> _Run:
        """The trial's run, perhaps made since by another process, or by a call whose answer was lost."""
        first = attempts[0]
        tags = {
            "normsweep.trial": trial.id,
            "normsweep.sweep": self._plan.sweep,
            "normsweep.commit": first.get("commit", ""),
            "normsweep.host": first.get("host", ""),
            "normsweep.reused": str(is_reused).lower(),
            **{f"normsweep.version.{name}": text for name, text in first.get("versions", {}).items()},
        }
        started = round(first["started"] * 1000)
        with alone(self._address.database):
            found = self._find_run("normsweep.trial", trial.id)
            if found is not None:
                return _Run(found)
            return _Run(self._client.create_run(self._experiment, start_time=started, tags=tags, run_name=trial.name))

    def _describe(self, run: _Run, trial: Trial) -> None:
        training = trial.spec.training
        facts = {"parameters": trial.parameters, "steps": training.steps, "batch_size": training.batch_size}
        params = [Param(name, str(value)) for name, value in {**trial.axes, **facts}.items()]
        self._client.log_batch(run.id, params=params, tags=[RunTag("mlflow.source.name", "normsweep")])
        run.is_described = True

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            self._is_open = False  # somebody may have deleted the experiment or a run: the next call looks again
            line = _first_line(error)
            raise TrackingUnavailable(
                f"MLflow at {self._address.shown} cannot be used: {line}\n{about_access(line)}"
                "The store has everything; when it answers again, `normsweep sync FILE` brings it up to date."
            ) from error


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.partition(" Response body: '<")[0][:300]  # a page for people says nothing here


def _is_deleted(run: Run) -> bool:
    return bool(run.info.lifecycle_stage == LifecycleStage.DELETED)


class _Run:
    """What is known of one MLflow run."""

    def __init__(self, run: Run) -> None:
        self.id: str = run.info.run_id
        self.status: str = run.info.status
        self.is_described = bool(run.data.params)
        attempt, _, seq = run.data.tags.get("normsweep.cursor", "0/-1").partition("/")
        self.cursor = (int(attempt), int(seq))
        self.result: str = run.data.tags.get(RESULT, "")
        self.is_over = False
        self.reader: JournalReader | None = None

    def has_all_of(self, result: Record | Damaged | None) -> bool:
        """Whether the trial was sent to its end, with this result."""
        if not isinstance(result, dict) or self.status != STATUS.get(State.of_outcome(result["outcome"])):
            return False
        return bool(self.result == result[CHECKSUM])


def connected(address: Address) -> MlflowClient:
    """A client. Raises Unusable or SQLAlchemyError at once for a database that MLflow would try ten times, for 100 s."""
    if address.database is not None:
        check_usable(address.database)
    elif not address.is_server and "://" in address.uri and not address.uri.startswith("databricks"):
        sqlalchemy.create_engine(address.uri, poolclass=sqlalchemy.NullPool).connect().close()
    return MlflowClient(address.uri)


def _open(address: Address, plan: Plan) -> tuple[MlflowClient, str, bool]:
    """A client, the id of the sweep's experiment, and whether that had to be restored."""
    location = None
    if address.database is not None:
        location = artifacts_beside(address.database, plan.sweep)
    # Several processes that open a new SQLite database at once fail in its migrations, all but one.
    with alone(address.database):
        client = connected(address)
        if address.database is not None:
            bring_home(address.database)
        found = client.get_experiment_by_name(plan.sweep)
        if found is not None:
            return client, found.experiment_id, _restore(client, found)
        # The kind makes the UI open on runs and charts instead of on traces of language models.
        tags = {"mlflow.note.content": plan.question, "mlflow.experimentKind": "custom_model_development"}
        return client, client.create_experiment(plan.sweep, artifact_location=location, tags=tags), False


def _restore(client: MlflowClient, experiment: Experiment) -> bool:
    """Whether the experiment had been deleted. Raises MlflowException, with what to do, where it cannot be restored."""
    if experiment.lifecycle_stage != LifecycleStage.DELETED:
        return False
    try:
        client.restore_experiment(experiment.experiment_id)
    except MlflowException as error:
        raise MlflowException(
            f"its experiment {experiment.name} is deleted and cannot be restored from here: {_first_line(error)} "
            f"Restore it with `mlflow experiments restore --experiment-id {experiment.experiment_id}`."
        ) from error
    return True


def deleted_experiments(address: Address) -> list[tuple[str, int | None]]:
    """What `sqlite.deleted` finds, of a server or another database. Raises TrackingUnavailable with one line."""
    try:
        client = connected(address)
        experiments = {found.experiment_id: found for found in client.search_experiments(ViewType.ALL)}
        runs = client.search_runs(list(experiments), "tags.`normsweep.trial` LIKE '%'", ViewType.DELETED_ONLY)
    except FAILURES as error:
        raise TrackingUnavailable(f"{address.shown}: {_first_line(error)}") from error
    counted = Counter(run.info.experiment_id for run in runs)
    return [
        (experiments[key].name, None if experiments[key].lifecycle_stage == LifecycleStage.DELETED else number)
        for key, number in counted.items()
    ]


def _all_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    """The deleted ones too."""
    token = None
    while True:
        page = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=1_000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def sync_sweep(plan: Plan, store_uri: str, tracking_uri: str) -> list[str]:
    """Bring MLflow up to what the store holds of a sweep; returns what people should know of it."""
    mirror = Mirror(tracking_uri, plan)
    mirror.sync(read_store(store_uri), plan.trials)
    return mirror.notes
