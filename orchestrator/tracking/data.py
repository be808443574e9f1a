"""What may be sent to MLflow twice, or must not be; data sets as the inputs of its runs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException

from orchestrator.tracking.base import DataSet

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
LONGEST_DIGEST = 36
CONTEXT = "mlflow.data.context"
# What databases call a row that is there already: of SQLite, PostgreSQL and MySQL.
THERE_ALREADY = ("IntegrityError", "UniqueViolation", "Duplicate entry")


def beside_others(send: Callable[[], None]) -> None:
    """Send something; once more if another process has just made the same row.

    MLflow looks whether a row is there and then makes it, so of two that do so at one moment it
    fails one. Asked again, it finds the row. Raises what MLflow raises.
    """
    try:
        send()
    except MlflowException as error:
        if not any(word in str(error) for word in THERE_ALREADY):
            raise
        send()


@contextlib.contextmanager
def unrepeated() -> Iterator[None]:
    """Let MLflow's client send a request once, until the block ends.

    It repeats one whose answer did not come, which MLflow may have carried out all the same. For
    values, tags and files that changes nothing, but each repetition would make another run.
    """
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = "0"  # the client reads it at every request
    try:
        yield
    finally:
        del os.environ[RETRIES]
        if before is not None:
            os.environ[RETRIES] = before


def log_data(client: MlflowClient, run_id: str, data: Sequence[DataSet]) -> None:
    """Record the data sets of a run. Raises what MLflow raises."""
    inputs = [_input(one) for one in data]
    beside_others(partial(client.log_inputs, run_id, datasets=inputs))


def _input(data: DataSet) -> DatasetInput:
    source = json.dumps({"name": data.name, "manifest_sha256": data.sha256})
    dataset = Dataset(
        data.name, data.sha256[:LONGEST_DIGEST], source_type="normsweep", source=source
    )
    return DatasetInput(dataset, [InputTag(CONTEXT, data.context)])
