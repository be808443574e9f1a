"""The frame's points in columns that stay small: a sweep may have tens of millions of points."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator.store import children
from orchestrator.store.points import Points


def point_rows(trials: Sequence[str], points: Sequence[Points | None]) -> pd.DataFrame:
    """A row for each point of these trials: trial, metric, step, value, attempt.

    `points` has an entry for each trial, None if it has no point. Trials and metrics become
    categories in order of appearance. Whole numbers take 32 bits where they fit.
    """
    there = [(trial, found) for trial, found in zip(trials, points, strict=True) if found]
    numbers: dict[str, int] = {}
    for _, found in there:
        for name in found.metrics:
            numbers.setdefault(name, len(numbers))
    trial = np.arange(len(there), dtype=_code_type(len(there)))
    code = _code_type(len(numbers))
    # Made small before there is one for each point: every copy of a column takes its time.
    steps = _all_small([found.step for _, found in there])

    def of_metric(found: Points) -> NDArray[Any]:
        return np.array([numbers[name] for name in found.metrics], dtype=code)[found.metric]

    # Side by side: most of the time goes by in copying, which needs no lock of Python's.
    with ThreadPoolExecutor(children.cores()) as copiers:
        value = copiers.submit(lambda: _joined([found.value for _, found in there], "float64"))
        metric = copiers.submit(lambda: _joined([of_metric(found) for _, found in there], code))
        step = copiers.submit(
            lambda: _joined(
                [step[found.line] for step, (_, found) in zip(steps, there, strict=True)], "int32"
            )
        )
        attempt = copiers.submit(
            lambda: _joined([found.attempt[found.line] for _, found in there], "int32")
        )
    columns = {
        "trial": _categories(
            np.repeat(trial, [len(found) for _, found in there]), [name for name, _ in there]
        ),
        "metric": _categories(metric.result(), list(numbers)),
        "step": step.result(),
        "value": value.result(),
        "attempt": attempt.result(),
    }
    return pd.DataFrame(columns, copy=False)


def labelled(points: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Points with labels of their trials after `trial`; `labels` is indexed by trial.

    Labels that are not numbers become categories.
    """
    trial, names = numbered(points["trial"])
    of_trials = labels.loc[names]
    columns = {name: _repeated(of_trials[name], trial) for name in labels.columns}
    first, rest = points[["trial"]], points.drop(columns="trial")
    return pd.DataFrame({**first, **columns, **rest}, index=points.index, copy=False)


def numbered(texts: pd.Series, *, in_order: bool = False) -> tuple[NDArray[Any], list[str]]:
    """Texts as numbers, and what these stand for. None of them is missing.

    `in_order`: in the order in which pandas sorts them, which for categories is their own.
    """
    if isinstance(texts.dtype, pd.CategoricalDtype):
        return texts.cat.codes.to_numpy(), [str(text) for text in texts.cat.categories]
    numbers, names = pd.factorize(texts, sort=in_order)
    return numbers, [str(name) for name in names]


def in_order(steps: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Steps as numbers in the same order, and how many numbers there may be: no more than steps."""
    count = int(steps.max(initial=-1)) + 1
    if count <= len(steps):
        return steps, count
    numbers, distinct = pd.factorize(steps, sort=True)
    return numbers, len(distinct)


def _joined(parts: list[NDArray[Any]], dtype: str) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.array([], dtype=dtype)


def _repeated(label: pd.Series, trial: NDArray[Any]) -> Any:
    """The label of each of these trials, which are numbers."""
    if pd.api.types.is_numeric_dtype(label.dtype):
        return _all_small([label.to_numpy()])[0][trial]
    codes, values = pd.factorize(label)
    return _categories(codes.astype(_code_type(len(values)))[trial], values)


def _categories(codes: NDArray[Any], values: Any) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, categories=pd.Index(values))


def _code_type(count: int) -> str:
    """The type of the codes of so many categories, as pandas chooses it."""
    return next((size for size in ("int8", "int16") if count < np.iinfo(size).max), "int32")


def _all_small(columns: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Whole numbers in 32 bits, if all of them fit."""
    fit = all(
        values.dtype.kind == "i" and (not len(values) or np.abs(values).max() < 2**31)
        for values in columns
    )
    return [values.astype(np.int32) for values in columns] if fit else list(columns)
