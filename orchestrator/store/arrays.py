"""Arrays that probes measured while a trial trained, each in a file that is written once.

    trials/<id>/probes/<probe>/step-<n>-<attempt>.safetensors

A later attempt trains some steps again, but does not ship arrays that an earlier one has shipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from orchestrator.store.base import Store

CROPS = "crops"  # no probe's: crops of restored images, which trainers.crops keeps in this way
ARRAYS = re.compile(
    r"trials/[^/]+/probes/(?P<probe>[A-Za-z_][\w.]{0,199})"
    r"/step-(?P<step>\d{1,15})-(?P<attempt>[1-9]\d{0,8})\.safetensors"
)


class ArrayFile(NamedTuple):
    """A file of arrays: what measured them, after which step, and the attempt that shipped them."""

    probe: str
    attempt: int
    step: int
    key: str


def arrays_among(keys: Iterable[str]) -> list[ArrayFile]:
    """The files of arrays among these keys; a probe's are in the order in which it shipped them."""
    found = (ARRAYS.fullmatch(key) for key in keys)
    return sorted(
        ArrayFile(match["probe"], int(match["attempt"]), int(match["step"]), match[0])
        for match in found
        if match
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
        return {(file.probe, file.step) for file in arrays_among(self._store.list(self._prefix))}
