"""What several processes may send to MLflow at once, and data sets as the inputs of its runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException

from orchestrator.tracking.base import DataSet

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
