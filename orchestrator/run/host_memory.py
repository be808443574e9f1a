"""Killed for host memory: what is tried next (orchestrator.run.memory_kills says how it is known).

One kill may be another program's fault, so the attempt is repeated as it was. A second one at the
same step takes half the micro-batch, as after CUDA memory, until nothing is left to halve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.plan import Trial
from orchestrator.plan.outcomes import CUDA_MEMORY, HOST_MEMORY
from orchestrator.run.out_of_memory import (
    infeasible_because,
    is_fixed,
    place_of,
    remembered,
    smaller_micro_batch,
)
from orchestrator.run.reports import Report
from orchestrator.store.attempts import Attempt, read_failed_attempts
from orchestrator.store.base import Store
from trainers.spec import RunSpec

MOST_KILLS = 2  # at one step with one micro-batch, before that is halved

Tried = tuple[Attempt, Mapping[str, Any]]


def spec_after(store: Store, trial: Trial) -> RunSpec:
    """The spec of a trial with the micro-batch that earlier attempts have left it."""
    tried = read_failed_attempts(store, trial.id, CUDA_MEMORY)
    killed = _repeated(read_failed_attempts(store, trial.id, HOST_MEMORY))
    return remembered(trial.spec, [*tried, *killed])


def _repeated(killed: Iterable[Tried]) -> list[Tried]:
    """Those kills for host memory that were the second at their step with their micro-batch."""
    seen: Counter[tuple[int, object]] = Counter()
    found = []
    for attempt, failure in killed:
        place = (failure["step"], attempt.get("placement", {}).get("micro_batch"))
        seen[place] += 1
        if seen[place] >= MOST_KILLS:
            found.append((attempt, failure))
    return found


def infeasible(
    store: Store, trial: Trial, kind: str, step: int, reports: Sequence[Report]
) -> str | None:
    """Why no smaller micro-batch helps against a lack of memory; None if another attempt may do.

    `step` is that of the newest checkpoint, at which the attempt that now fails had begun or got.
    """
    if kind == CUDA_MEMORY:
        return infeasible_because(trial, place_of(reports))
    spec = trial.spec
    if kind != HOST_MEMORY or not (
        is_fixed(spec) or smaller_micro_batch(spec, spec.micro_batch) is None
    ):
        return None
    earlier = [
        failure
        for attempt, failure in read_failed_attempts(store, trial.id, HOST_MEMORY)
        if failure["step"] == step
        and attempt.get("placement", {}).get("micro_batch") == spec.micro_batch
    ]
    if len(earlier) + 1 < MOST_KILLS:
        return None
    why = (
        f"{spec.model.norm.name} takes its statistics from the micro-batch, so a smaller one would "
        "make another trial."
        if is_fixed(spec)
        else "nothing is left to halve."
    )
    return (
        f"Killed for host memory {len(earlier) + 1} times at step {step} with a micro-batch of "
        f"{spec.micro_batch}: {why}"
    )
