"""Writes trials whose features grow as a test says, so that growth and slope are known exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.plan import Plan, Trial
from orchestrator.store import journals
from orchestrator.store.base import Store
from tests.written_store import START, _begin, write_end
from trainers.journal import encoded

EVERY = 10
Curve = Callable[[int], float]


def power(slope: float, start: float = 3.0) -> Curve:
    """m(0) = start and m(t) = start t^slope."""
    return lambda step: start * step**slope if step else start


def write_curve(
    store: Store,
    trial: Trial,
    curve: Curve,
    *,
    outcome: str | None = "completed",
    until: int | None = None,
    smaller: float = 0.5,
    extra: Mapping[str, float] | None = None,
) -> None:
    """Write a trial whose largest group's mean square is `curve(step)`, and another's `smaller` of
    it, every 10 steps.

    With outcome None it has not ended. `extra`: other metrics, recorded at each of these steps.
    """
    last = trial.spec.training.steps if until is None else until
    attempt = _begin(store, trial)
    lines: list[dict[str, Any]] = [_line(0, 0, kind="event", event="started")]
    for step in range(0, last + 1, EVERY):
        value = curve(step)
        values = {
            "feature/mean_square/group_0": smaller * value,
            "feature/mean_square/group_1": value,
            **(extra or {}),
        }
        lines.append(_metrics(len(lines), step, values))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    journals.put_segment(store, trial.id, attempt, 0, text.encode())
    if outcome is not None:
        write_end(store, trial, attempt, last, outcome, b"weights")


def write_curves(store: Store, plan: Plan, curve_of: Callable[[Trial], Curve]) -> None:
    """Write every trial of the plan, completed."""
    for trial in plan.trials:
        write_curve(store, trial, curve_of(trial))


def blown_up(at: int) -> Curve:
    """Level features that are not finite from one step on."""
    return lambda step: math.inf if step >= at else 3.0


def _metrics(seq: int, step: int, values: Mapping[str, float]) -> dict[str, Any]:
    return _line(
        seq, step, kind="metrics", values={name: encoded(value) for name, value in values.items()}
    )


def _line(seq: int, step: int, **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "time": START + step * 0.5, "step": step, **fields}
