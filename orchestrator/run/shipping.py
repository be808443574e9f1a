"""Ships what a rank writes to its run folder: its journal every 10 s, its checkpoints at once."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import EnvironmentProblem
from orchestrator.store.arrays import ArrayShipper
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import Files, checkpoint_prefix
from orchestrator.store.journals import put_segment
from trainers.durable import sha256_of

SHIP_EVERY_S = 10.0  # each shipment is a segment, and a request for everyone who reads the trial


@dataclass(frozen=True)
class Shipped:
    """One rank's part of a checkpoint that is now in the store."""

    step: int
    files: Files


@dataclass(frozen=True)
class News:
    """What a rank has done since it was last asked: the newest values, and checkpoints shipped."""

    step: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    checkpoints: tuple[Shipped, ...] = ()
    points: tuple[tuple[int, float], ...] = ()  # step and value of the metric that is watched


class Shipping:
    """Ships from a rank's run folder `out` to its attempt in the store.

    `device` is what the rank trains on, once its journal says so. Of the metric `watched` every
    value is reported, of others the newest.
    """

    def __init__(
        self, store: Store, trial_id: str, attempt: int, rank: int, out: Path, watched: str = ""
    ) -> None:
        self._store = store
        self._trial_id = trial_id
        self._attempt = attempt
        self._arrays = ArrayShipper(store, trial_id, attempt)
        self._rank = rank
        self._out = out
        self._watched = watched
        self._read_bytes = 0  # of the journal, so far
        self._unshipped: list[bytes] = []  # lines of the journal
        self._shipped_at = -math.inf
        self._shipped: set[str] = set()  # names of checkpoints
        self.device: str | None = None

    def ship(self, *, has_ended: bool) -> News:
        """Ship what is due, and say what is new.

        A finished checkpoint is shipped at once, preceded by the journal lines up to it. Other
        lines wait for SHIP_EVERY_S to pass or the rank to end. Lines lost with a killed worker are
        of steps after the last checkpoint, which the next attempt trains again.
        """
        # Found before the journal is read: a checkpoint that is finished in between has lines that
        # were not read, and must wait.
        finished = self._finished_checkpoints()
        step, values, points = self._read_journal()
        if finished or has_ended or time.monotonic() - self._shipped_at >= SHIP_EVERY_S:
            self._ship_lines()
        return News(step, values, self._ship_checkpoints(finished), points)

    def _read_journal(self) -> tuple[int, dict[str, float], tuple[tuple[int, float], ...]]:
        path = self._out / "journal.jsonl"
        if self._rank != 0 or not path.exists():
            return 0, {}, ()
        with path.open("rb") as file:
            file.seek(self._read_bytes)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            return 0, {}, ()
        self._read_bytes += len(whole)
        lines = whole.splitlines(keepends=True)
        self._unshipped += lines
        records = [json.loads(line) for line in lines]
        values: dict[str, float] = {}
        for record in records:
            self.device = record.get("device", self.device)
            values |= {name: float(value) for name, value in record.get("values", {}).items()}
        points = tuple(
            (int(record["step"]), float(record["values"][self._watched]))
            for record in records
            if self._watched in record.get("values", ())
        )
        return int(records[-1]["step"]), values, points

    def _ship_lines(self) -> None:
        if not self._unshipped:
            return
        first: int = json.loads(self._unshipped[0])["seq"]
        put_segment(self._store, self._trial_id, self._attempt, first, b"".join(self._unshipped))
        self._unshipped = []
        self._shipped_at = time.monotonic()

    def _finished_checkpoints(self) -> list[Path]:
        """Manifests of checkpoints that have not been shipped yet."""
        found = sorted((self._out / "checkpoints").glob(f"step-*/manifest.rank-{self._rank}.json"))
        return [path for path in found if path.parent.name not in self._shipped]

    def _ship_checkpoints(self, finished: Iterable[Path]) -> tuple[Shipped, ...]:
        shipped = []
        for manifest_path in finished:
            folder = manifest_path.parent
            try:
                shipped.append(self._ship_checkpoint(folder, manifest_path))
            except (OSError, EnvironmentProblem):
                if _is_whole(manifest_path):
                    raise
                continue  # the rank is removing it: newer ones are there
            self._shipped.add(folder.name)
        return tuple(shipped)

    def _ship_checkpoint(self, folder: Path, manifest_path: Path) -> Shipped:
        # First, since an attempt that continues from this checkpoint does not measure them again.
        self._arrays.ship(self._out / "probes")
        manifest: dict[str, Any] = json.loads(manifest_path.read_bytes())
        prefix = checkpoint_prefix(self._trial_id, manifest["step"], self._attempt)
        files: Files = dict(manifest["files"])
        files[manifest_path.name] = {
            "sha256": sha256_of(manifest_path),
            "bytes": manifest_path.stat().st_size,
        }
        for name in files:
            self._store.put_file(f"{prefix}/{name}", folder / name)
        return Shipped(int(manifest["step"]), files)


def _is_whole(manifest_path: Path) -> bool:
    """Whether all files of a finished checkpoint are there, so that nobody is removing it."""
    try:
        names = json.loads(manifest_path.read_bytes())["files"]
    except OSError:
        return False
    return all((manifest_path.parent / name).exists() for name in names)
