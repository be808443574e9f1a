"""Arrays that probes measured while a trial trained, each in a file that is written once.

    trials/<id>/probes/<probe>/step-<n>-<attempt>.safetensors

A later attempt trains some steps again, but does not ship arrays that an earlier one has shipped.
"""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.store.base import Store

ARRAYS = re.compile(
    r"trials/[^/]+/probes/([a-z][a-z0-9_]{0,63})/step-(\d{1,15})-[1-9]\d{0,8}\.safetensors"
)


class ArrayShipper:
    """Ships the arrays that one attempt at a trial has measured."""

    def __init__(self, store: Store, trial_id: str, attempt: int) -> None:
        self._store = store
        self._prefix = f"trials/{trial_id}/probes"
        self._attempt = attempt
        # Probe and step of each array in the store; None until the store has been listed.
        self._shipped: set[tuple[str, int]] | None = None

    def ship(self, folder: Path) -> None:
        """Ship the new arrays in a run folder's `probes/`."""
        for path in sorted(folder.glob("*/step-*.safetensors")):
            probe, step = path.parent.name, int(path.stem.removeprefix("step-"))
            if self._shipped is None:  # listed only once there is something to ship
                self._shipped = self._in_store()
            if (probe, step) not in self._shipped:
                self._store.put_file(
                    f"{self._prefix}/{probe}/step-{step:08d}-{self._attempt}.safetensors", path
                )
                self._shipped.add((probe, step))

    def _in_store(self) -> set[tuple[str, int]]:
        """Probe and step of each array that this attempt or an earlier one has shipped."""
        found = (ARRAYS.fullmatch(key) for key in self._store.list(self._prefix))
        return {(match[1], int(match[2])) for match in found if match}
