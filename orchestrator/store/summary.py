"""What the summary of a run says of each trial, and who trains the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.plan import Plan
from orchestrator.plan.states import State
from orchestrator.store.stops import stopped_at
from orchestrator.store.trials import Look

UNITS = ("B", "kB", "MB", "GB", "TB")


def size_in_words(size: float) -> str:
    """`0 B`, `812 kB`, `3.4 GB`."""
    unit = 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit < 2 or size >= 100 else f"{size:.1f} {UNITS[unit]}"


def outcomes(plan: Plan, looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """How far each trial of a sweep is: its state, and what its result and failure say."""
    return [_outcome(trial.name, looks[trial.id]) for trial in plan.trials]


def _outcome(name: str, look: Look) -> dict[str, Any]:
    result, failure = look.result, None if look.state.has_result else look.failure
    metrics = {} if result is None else result["metrics"]
    return {
        "trial": look.trial,
        "name": name,
        "state": look.state,
        "step": look.step if result is None else stopped_at(result),
        "attempts": len(look.attempts),
        # Numbers that JSON lacks are kept as text ("nan").
        "metrics": {key: None if isinstance(one, str) else one for key, one in metrics.items()},
        "why": None if result is None else result.get("why"),
        "failure": None if failure is None else failure["kind"],
        "message": None if failure is None else failure["message"],
        "log": None if failure is None else failure.get("log"),
    }


def ended_elsewhere(looks: Mapping[str, Look], among: Iterable[str], run: str) -> int:
    """The number of these trials to whose result a run other than `run` has trained them."""
    results = [(looks[trial], looks[trial].result) for trial in among]
    return sum(
        any(
            attempt["attempt"] == result["attempt"] and attempt.get("run", "") != run
            for attempt in look.tried
        )
        for look, result in results
        if result is not None
    )


def who_trains(looks: Iterable[Look]) -> dict[str, dict[str, str]]:
    """The host and the run of each trial that is running, by its id."""
    return {
        look.trial: {"host": str(last.get("host", "")), "run": str(last.get("run", ""))}
        for look in looks
        if look.state == State.RUNNING and look.tried and (last := look.tried[-1])
    }


def who_trains_in_words(names: Mapping[str, str], looks: Mapping[str, Look]) -> list[str]:
    """A line for each run that trains some of these trials: where it runs, and which they are.

    `names`: the trials' names by id, in the order in which they are listed.
    """
    by_run: dict[tuple[str, str], list[str]] = {}
    trainers = who_trains(looks.values())
    for trial, name in names.items():
        if (who := trainers.get(trial)) is not None:
            by_run.setdefault((who["host"], who["run"]), []).append(name)
    return [
        f"running on {host or 'an unnamed host'}{run and f' (run {run})'}: {', '.join(names)}"
        for (host, run), names in by_run.items()
    ]
