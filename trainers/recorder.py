"""Records a trial in its run folder while it trains; only rank 0 writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from trainers.checkpoint import folder_name
from trainers.durable import write_json
from trainers.journal import Journal, encoded
from trainers.probes.base import Observation
from trainers.probes.files import write_arrays


class Recorder:
    """Writes the journal and, at the end, the result with every metric's last value."""

    def __init__(self, out: Path, rank: int) -> None:
        self._out = out
        self._journal = Journal(out / "journal.jsonl") if rank == 0 else None
        self._last: dict[str, float] = {}
        self._undefined: dict[str, Mapping[str, str]] = {}  # by probe, as last written

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._last.update(values)
        if self._journal is not None:
            self._journal.metrics(step, values)

    def machine(self, step: int, values: Mapping[str, float]) -> None:
        """Record what the machine is doing, which is no part of a result."""
        if self._journal is not None:
            self._journal.metrics(step, values)

    def observation(
        self, step: int, probe: str, observation: Observation, *, arrays: bool = True
    ) -> None:
        """Record what a probe has measured, and once why it has not measured the rest.

        Its arrays are kept if that is due (`arrays`).
        """
        if observation.scalars:
            self.metrics(step, observation.scalars)
        if observation.undefined != self._undefined.get(probe, {}):
            self._undefined[probe] = observation.undefined
            self.event(step, "undefined", probe=probe, reasons=dict(observation.undefined))
        for name in observation.undefined:
            self._last.pop(name, None)  # an older value is not the last one
        if arrays:
            self.arrays(step, probe, observation.arrays)

    def arrays(self, step: int, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep arrays in a file, if there are any."""
        if arrays and self._journal is not None:
            write_arrays(self._out, name, step, arrays)

    def event(self, step: int, event: str, **fields: Any) -> None:
        if self._journal is not None:
            self._journal.event(step, event, **fields)

    def end(self, step: int, outcome: str, *, final: bool, why: str = "") -> None:
        """Record how training ended and, of a trial that diverged, why.

        The result is written if that is `final`.
        """
        said = {"why": why} if why else {}
        self.event(step, outcome, **said)
        if self._journal is None:
            return
        self._journal.close()
        if final:
            metrics = {name: encoded(value) for name, value in self._last.items()}
            result = {
                "outcome": outcome,
                "step": step,
                "checkpoint": folder_name(step),
                "metrics": metrics,
                **said,
            }
            write_json(self._out / "result.json", result)
