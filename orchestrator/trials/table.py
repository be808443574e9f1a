"""`normsweep trials`: a line for each trial of a store, or of a sweep file. Reads only."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from orchestrator.plan import Plan
from orchestrator.plan.show import duration, trials_in_words
from orchestrator.plan.states import State
from orchestrator.store.attempts import kept_spec, read_alive
from orchestrator.store.base import Store
from orchestrator.store.finding import name_of
from orchestrator.store.freed import FREED, bytes_of
from orchestrator.store.journals import READERS
from orchestrator.store.records import Damaged
from orchestrator.store.summary import size_in_words
from orchestrator.store.trials import Journals, Look, read_journals
from trainers.spec import RunSpec

QUALITY, LOSS = "/psnr", "train/loss"
NAME = "trial"
COLUMNS = ("id", "state", "step", "newest", "age", "size", NAME)
# Columns that a narrow terminal does without, in this order. Numbers are never cut short.
LEFT_OUT = ("size", "age", "newest", "step")
SHORTEST_NAME = 16  # characters of a trial's name; columns are left out to make room for them


@dataclass(frozen=True)
class Row:
    """A trial as one line shows it."""

    id: str
    name: str  # "" if its spec cannot be read
    sweep: str  # of its newest attempt; "" if it has none
    state: State
    step: int
    steps: int | None
    metric: str  # the newest PSNR if there is one, else the newest loss, else ""
    value: float | None
    changed: float | None  # seconds since 1970
    bytes: int
    freed_bytes: int | None  # of its last checkpoint, if a sweep's `keep` has removed that
    damaged: tuple[Damaged, ...]


def rows(store: Store, plan: Plan | None = None) -> list[Row]:
    """The trials of a plan in its order, or all of the store's, the last one changed first.

    Raises EnvironmentProblem if the store cannot be read.
    """
    stored: dict[str, int] = {}
    for key, size in store.sizes("trials").items():
        if len(parts := key.split("/")) > 2:
            stored[parts[1]] = stored.get(parts[1], 0) + size
    planned = {} if plan is None else {trial.id: trial for trial in plan.trials}

    def row(trial: str) -> Row:
        look, journals = read_journals(store, trial)
        spec = planned[trial].spec if trial in planned else _spec(store, look)
        return Row(
            trial,
            planned[trial].name if trial in planned else "" if spec is None else name_of(spec),
            str(look.tried[-1].get("sweep", "")) if look.tried else "",
            look.state,
            max(look.step, 0 if look.result is None else look.result["step"], _reached(journals)),
            None if spec is None else spec.training.steps,
            *newest_metric(journals),
            _changed(store, look),
            stored.get(trial, 0),
            _freed(look),
            look.damaged,
        )

    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(row, list(planned) if plan is not None else list(stored)))
    return found if plan is not None else sorted(found, key=lambda one: -(one.changed or 0.0))


def newest_metric(journals: Journals) -> tuple[str, float | None]:
    """The newest PSNR of any set, or else the newest loss, with its value; ("", None) for none."""
    for wanted in (QUALITY, LOSS):
        for _, lines in reversed(journals):
            for line in reversed(lines):
                for name, value in line.values.items():
                    if name.endswith(wanted):
                        return name, float(value)
    return "", None


def as_json(uri: str, found: Sequence[Row]) -> dict[str, Any]:
    """The rows as JSON. A value that is not a finite number is its name: "nan", "inf", "-inf"."""
    return {
        "store": uri,
        "trials": [
            {
                **{name: value for name, value in vars(row).items() if name != "damaged"},
                "value": _plain(row.value),
                "damage": [str(problem) for problem in row.damaged],
            }
            for row in found
        ],
    }


def as_text(uri: str, found: Sequence[Row], width: int | None = None) -> str:
    """The rows as a table, with the damage below it.

    `width`: of the terminal, if it is one; names are shortened to fit it, numbers never.
    """
    if not found:
        return f"The store {uri} has no trials."
    now = time.time()
    head = {column: column for column in COLUMNS}
    cells = [head, *(_cells(row, now) for row in found)]
    columns, left = _that_fit(cells, width)
    lines = [
        "  ".join([*(row[c].ljust(w) for c, w in columns.items()), _cut(row[NAME], left)])
        for row in cells
    ]
    total = size_in_words(sum(row.bytes for row in found))
    lines += ["", f"{trials_in_words(len(found))}, {total}."]
    if freed := [row.freed_bytes for row in found if row.freed_bytes is not None]:
        what = f"{len(freed)} checkpoint{'s' * (len(freed) > 1)} ({size_in_words(sum(freed))})"
        lines.append(f"Removed by the `keep` of their sweeps: {what}.")
    lines += [f"damaged: {problem}" for row in found for problem in row.damaged]
    return "\n".join(line.rstrip() for line in lines)


def _that_fit(
    cells: Sequence[Mapping[str, str]], width: int | None
) -> tuple[dict[str, int], int | None]:
    """The columns before the name that a terminal has room for, and the room left for names."""
    columns = {c: max(len(row[c]) for row in cells) for c in COLUMNS if c != NAME}
    if width is None:
        return columns, None
    left_out = iter(LEFT_OUT)
    while (left := width - sum(columns.values()) - 2 * len(columns)) < SHORTEST_NAME:
        if (column := next(left_out, None)) is None:
            break
        del columns[column]
    return columns, max(1, left)


def _cells(row: Row, now: float) -> dict[str, str]:
    step = f"{row.step}/{'?' if row.steps is None else row.steps}"
    value = "" if row.value is None else f"{row.metric.removeprefix('val/')} {_number(row)}"
    age = "" if row.changed is None else duration(max(0.0, now - row.changed))
    name = row.name or "(no spec)"
    texts = (row.id, row.state, step, value, age, size_in_words(row.bytes), name)
    return dict(zip(COLUMNS, texts, strict=True))


def _number(row: Row) -> str:
    return f"{row.value:.3f}" if row.metric.endswith(QUALITY) else f"{row.value:.4g}"


def _cut(name: str, width: int | None) -> str:
    return name if width is None or len(name) <= width else f"{name[: width - 1]}…"


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _spec(store: Store, look: Look) -> RunSpec | None:
    if look.trained:
        return look.trained[-1]
    kept = kept_spec(store, look.trial)
    return kept if isinstance(kept, RunSpec) else None


def _reached(journals: Journals) -> int:
    return max((lines[-1].step for _, lines in journals if lines), default=0)


def _freed(look: Look) -> int | None:
    return bytes_of(look.result) if look.result is not None and FREED in look.result else None


def _changed(store: Store, look: Look) -> float | None:
    """When the trial last changed: its end, its failure, its last sign of life, or its start."""
    if look.result is not None:
        return float(look.result["ended"])
    if look.failure is not None:
        return float(look.failure["time"])
    alive = read_alive(store, look.trial, max(look.attempts)) if look.attempts else None
    if isinstance(alive, dict):
        return float(alive["time"])
    return float(look.tried[-1]["started"]) if look.tried else None
