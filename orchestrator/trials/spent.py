"""The time that trials have taken so far on GPUs, or on CPU cores where they had none."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from orchestrator.store.attempts import failure_at, read_alive
from orchestrator.store.base import Store
from orchestrator.store.journals import READERS
from orchestrator.store.records import Record
from orchestrator.store.trials import Look


@dataclass(frozen=True)
class Spent:
    """Hours times what attempts held. `unknown`: attempts of which no time is known."""

    gpu_hours: float = 0.0
    core_hours: float = 0.0
    unknown: int = 0

    def __str__(self) -> str:
        parts = [f"{self.gpu_hours:.1f} GPU-hours"] if self.gpu_hours or not self.core_hours else []
        parts += [f"{self.core_hours:.1f} CPU core-hours without a GPU"] if self.core_hours else []
        more = f", and attempts of unknown time: {self.unknown}" if self.unknown else ""
        return f"{' and '.join(parts)} spent so far{more}"


def spent(store: Store, looks: Iterable[Look]) -> Spent:
    """What all attempts at these trials have taken, failed ones as well.

    An attempt lasts from its start to its end, or else to its last sign of life.
    """
    tried = [(look, attempt) for look in looks for attempt in look.tried]
    with ThreadPoolExecutor(READERS) as readers:
        seconds = list(readers.map(lambda one: _seconds(store, *one), tried))
    gpus = cores = 0.0
    for (_, attempt), lasted in zip(tried, seconds, strict=True):
        placement = attempt.get("placement") or {}
        workers = _number(placement.get("workers")) or 1.0
        each = _number(placement.get("gpus_per_worker"))
        hours = (lasted or 0.0) / 3_600
        if each:
            gpus += hours * workers * each
        else:
            cores += hours * workers * (_number(placement.get("cpus_per_worker")) or 1.0)
    return Spent(gpus, cores, sum(lasted is None for lasted in seconds))


def _seconds(store: Store, look: Look, attempt: Record) -> float | None:
    number = attempt["attempt"]
    ends = [
        found["time"]
        for found in (failure_at(store, look.trial, number), read_alive(store, look.trial, number))
        if isinstance(found, dict)
    ]
    if look.result is not None and look.result["attempt"] == number:
        ends.append(look.result["ended"])
    lasted = max(ends, default=0.0) - float(attempt["started"])
    return lasted if lasted >= 0 else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
