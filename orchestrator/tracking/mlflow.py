"""MLflow mirrors the store: one experiment per sweep, one run per trial. The only file that imports mlflow.

Only the driver writes, and only what it reads from the journals, with the journal's timestamps: MLflow's key of a point holds
its timestamp, so sending one again adds nothing. How far a trial was sent stands in the run's tag `normsweep.cursor`; a run is
found by its tag `normsweep.trial` before it is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import logging

import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan, Trial
from orchestrator.store import read_store
from orchestrator.store.attempts import read_attempts
from orchestrator.store.base import Store
from orchestrator.store.journals import JournalReader, Point
from orchestrator.store.trials import read_result, trial_state

SQLITE = "sqlite:///"
MOST_METRICS = 1_000  # of one log_batch
STATUS = {
    "done": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "infeasible": "FAILED",
    "interrupted": "KILLED",
    "damaged": "KILLED",
}

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.WARNING)


class TrackingUnavailable(EnvironmentProblem):
    """MLflow does not answer. Training can go on: `normsweep sync FILE` catches up from the store."""


class Mirror:
    """One sweep's experiment. Every method raises TrackingUnavailable where MLflow does not answer."""

    def __init__(self, tracking_uri: str, plan: Plan) -> None:
        self._uri = tracking_uri
        self._plan = plan
        self._runs: dict[str, _Run] = {}
        with self._told():
            self._client, self._experiment = _open(tracking_uri, plan)
            for run in _all_runs(self._client, self._experiment):
                trial_id = run.data.tags.get("normsweep.trial")
                if trial_id:
                    self._runs[trial_id] = _Run(run)

    def sync(self, store: Store, trials: Iterable[Trial], *, reused: frozenset[str] = frozenset()) -> None:
        """Send what the store holds beyond what was sent. `reused` were done before this sweep came to them."""
        with self._told():
            for trial in trials:
                self._sync(store, trial, trial.id in reused)

    def log_report(self, files: Mapping[str, str]) -> None:
        """The report's files, by name, as artifacts of a run of its own, the same one each time."""
        with self._told():
            tags = {"normsweep.report": self._plan.sweep}
            found = self._client.search_runs([self._experiment], f"tags.`normsweep.report` = '{self._plan.sweep}'")
            run = found[0] if found else self._client.create_run(self._experiment, run_name="report", tags=tags)
            for name, text in files.items():
                self._client.log_text(run.info.run_id, text, name)
            self._client.set_terminated(run.info.run_id, "FINISHED")

    def _sync(self, store: Store, trial: Trial, is_reused: bool) -> None:
        attempts = read_attempts(store, trial.id)
        if not attempts:
            return
        run = self._runs.get(trial.id)
        if run is None:
            run = self._runs[trial.id] = self._find_or_create(trial, attempts, is_reused)
        if not run.is_described:
            self._describe(run, trial)
        # Put back only when all it gave has arrived: otherwise the next call reads from the cursor on once more.
        reader, run.reader = run.reader or JournalReader(store, trial.id), None
        fresh = [point for point in reader.new_points() if (point.attempt, point.seq) > run.cursor]
        if fresh:
            self._send(run, fresh)
        run.reader = reader
        result = read_result(store, trial.id)
        state = trial_state(store, trial.id)
        status = STATUS.get(state, "RUNNING")
        if status != run.status:
            if status == "RUNNING":
                self._client.update_run(run.id, status="RUNNING")
            else:
                outcome = result["outcome"] if result else state
                self._client.set_tag(run.id, "normsweep.outcome", outcome)
                ended = int(result["ended"] * 1000) if result else None
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
        with _alone(self._uri):
            found = self._client.search_runs([self._experiment], f"tags.`normsweep.trial` = '{trial.id}'")
            if found:
                return _Run(found[0])
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
        except (MlflowException, requests.RequestException, SQLAlchemyError, OSError) as error:
            said = str(error).splitlines()[0][:300]
            raise TrackingUnavailable(
                f"MLflow at {self._uri} cannot be used: {said}\n"
                "The store has everything; when it answers again, `normsweep sync FILE` brings it up to date."
            ) from error


class _Run:
    """What is known of one MLflow run."""

    def __init__(self, run: Run) -> None:
        self.id: str = run.info.run_id
        self.status: str = run.info.status
        self.is_described = bool(run.data.params)
        attempt, _, seq = run.data.tags.get("normsweep.cursor", "0/-1").partition("/")
        self.cursor = (int(attempt), int(seq))
        self.reader: JournalReader | None = None


def absolute(tracking_uri: str) -> str:
    """A SQLite address with its path made absolute; others as they are."""
    if not tracking_uri.startswith(SQLITE):
        return tracking_uri
    return SQLITE + str(Path(tracking_uri.removeprefix(SQLITE)).absolute())


def _database(tracking_uri: str) -> Path | None:
    """The file of a SQLite address."""
    return Path(absolute(tracking_uri).removeprefix(SQLITE)) if tracking_uri.startswith(SQLITE) else None


@contextlib.contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """Among the processes of this machine that use the same SQLite database; a server has to order its callers itself."""
    database = _database(tracking_uri)
    if database is None:
        yield
        return
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _open(tracking_uri: str, plan: Plan) -> tuple[MlflowClient, str]:
    """A client, and the id of the sweep's experiment."""
    location = None
    database = _database(tracking_uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        location = (database.parent / "mlartifacts").as_uri() + f"/{plan.sweep}"
    # Several processes that open a new SQLite database at once fail in its migrations, all but one.
    with _alone(tracking_uri):
        client = MlflowClient(absolute(tracking_uri))
        found = client.get_experiment_by_name(plan.sweep)
        if found is not None:
            return client, found.experiment_id
        # The kind makes the UI open on runs and charts instead of on traces of language models.
        tags = {"mlflow.note.content": plan.question, "mlflow.experimentKind": "custom_model_development"}
        return client, client.create_experiment(plan.sweep, artifact_location=location, tags=tags)


def _all_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1_000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def sync_sweep(plan: Plan, store_uri: str, tracking_uri: str) -> None:
    """Bring MLflow up to what the store holds of a sweep."""
    Mirror(tracking_uri, plan).sync(read_store(store_uri), plan.trials)
