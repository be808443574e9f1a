"""The frame's points in columns that stay small: a sweep may have tens of millions of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator.store.points import Points


def point_rows(labels: pd.DataFrame, points: Sequence[Points | None]) -> pd.DataFrame:
    """A row for each point, with the labels of its trial beside it.

    `labels` has a row for each trial, and `points` an entry, None if there is no point. Labels that
    are not numbers, and metrics, become categories in order of appearance. Whole numbers take 32
    bits where they fit.
    """
    there = [(i, found) for i, found in enumerate(points) if found is not None]
    of_trial = labels.iloc[[i for i, _ in there]]
    counts = [len(found) for _, found in there]
    numbers: dict[str, int] = {}
    for _, found in there:
        for name in found.metrics:
            numbers.setdefault(name, len(numbers))
    columns: dict[str, Any] = {
        str(name): _repeated(of_trial[name].infer_objects(), counts) for name in of_trial
    }
    metric = [
        np.array([numbers[name] for name in found.metrics], dtype=np.int32)[found.metric]
        for _, found in there
    ]
    columns["metric"] = _categories(_joined(metric, np.int32), list(numbers))
    columns["step"] = _small(_joined([found.step[found.line] for _, found in there], np.int64))
    columns["value"] = _joined([found.value for _, found in there], np.float64)
    columns["time"] = _joined([found.time[found.line] for _, found in there], np.float64)
    columns["attempt"] = _joined([found.attempt[found.line] for _, found in there], np.int32)
    return pd.DataFrame(columns, copy=False)


def _joined(parts: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.array([], dtype=dtype)


def _repeated(label: pd.Series, counts: Sequence[int]) -> Any:
    """Each trial's label as often as it has points."""
    if pd.api.types.is_numeric_dtype(label.dtype):
        return np.repeat(_small(label.to_numpy()), counts)
    codes, values = pd.factorize(label)
    return _categories(np.repeat(codes, counts), values)


def _categories(codes: NDArray[Any], values: Any) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, categories=pd.Index(values))  # in bytes if few


def _small(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "i" or (len(values) and np.abs(values).max() >= 2**31):
        return values
    return values.astype(np.int32)
