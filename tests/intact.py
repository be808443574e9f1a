"""What must hold of a sweep that was disturbed, against one that was not: read from the files.

Stores, journals and MLflow's database are read here by json, sqlite3 and torch alone.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch

# What a rank measures of the machine: it differs from run to run. `system/` is sampled by time, so
# its steps differ as well.
MEASURED = ("train/images_per_s", "train/memory_gb")
SAMPLED = "system/"
Point = tuple[str, int]
SHOWN = 5  # of the differences of one kind


def bits(value: float | str) -> bytes:
    """A value's bits. SQLite has no -0.0, so it counts as 0.0."""
    return struct.pack("<d", float(value) + 0.0)


def results(runs: Path) -> dict[str, Path]:
    return {path.parent.name: path for path in runs.glob("trials/*/result.json")}


class Finished:
    """Notices results when they come, so that one that is made again is seen."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._seen: dict[str, tuple[int, bytes, list[str]]] = {}

    def look(self) -> Iterator[str]:
        """Say what has changed of trials that had finished at the last look."""
        for trial, path in results(self._runs).items():
            attempts = sorted(os.listdir(path.parent / "attempts"))
            now = path.stat().st_ino, path.read_bytes(), attempts
            before = self._seen.setdefault(trial, now)
            if now != before:
                self._seen[trial] = now
                again = now[2] != before[2]
                yield f"{trial} had finished and {'was begun again' if again else 'ended again'}"

    def __len__(self) -> int:
        return len(self._seen)


def tracked(database: Path, experiment: str) -> dict[str, Counter[tuple[str, int, bytes]]]:
    """By trial, how often MLflow has each metric, step and value."""
    found: dict[str, Counter[tuple[str, int, bytes]]] = {}
    asked = """
        SELECT t.value, m.key, m.step, m.value, m.is_nan FROM metrics m
        JOIN runs r ON r.run_uuid = m.run_uuid
        JOIN experiments e ON e.experiment_id = r.experiment_id
        JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'normsweep.trial'
        WHERE e.name = ? AND r.lifecycle_stage = 'active'
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        for trial, key, step, value, is_nan in connection.execute(asked, (experiment,)):
            said = bits("nan" if is_nan else value)
            found.setdefault(trial, Counter())[key, step, said] += 1
    return found


def journalled(runs: Path, trial: str) -> dict[Point, bytes]:
    """Every value in the store's journals of a trial.

    Raises AssertionError where two attempts do not agree on one that is computed.
    """
    found: dict[Point, bytes] = {}
    for path in sorted(runs.glob(f"trials/{trial}/attempts/*/journal/*.jsonl")):
        for line in map(json.loads, path.read_bytes().splitlines()):
            for name, value in line.get("values", {}).items():
                before = found.setdefault((name, line["step"]), bits(value))
                if before != bits(value) and name not in MEASURED and not _is_sampled(name):
                    raise AssertionError(f"{trial}: attempts differ in {name}, {line['step']}")
    return found


def _is_sampled(name: str) -> bool:
    return name.startswith(SAMPLED)


def comparable(points: Mapping[Point, bytes]) -> dict[Point, bytes]:
    """The points that every run of a trial has, with the values that must be the same."""
    return {
        point: b"" if point[0] in MEASURED else value
        for point, value in points.items()
        if not _is_sampled(point[0])
    }


def final_weights(runs: Path, trial: str) -> dict[str, bytes]:
    """The bytes of every tensor of the final weights and their average."""
    result = json.loads(results(runs)[trial].read_bytes())
    folder = runs / "trials" / trial / "checkpoints" / result["checkpoint"]["name"]
    return {
        f"{file}: {name}": tensor.numpy().tobytes()
        for file in ("weights.pt", "ema.pt")
        for name, tensor in torch.load(folder / file, weights_only=True).items()
    }


class Reference:
    """An undisturbed sweep: what it trained, journalled and sent."""

    def __init__(self, runs: Path, database: Path, experiment: str) -> None:
        self.trials = sorted(results(runs))
        self.weights = {trial: final_weights(runs, trial) for trial in self.trials}
        self.journals = {trial: comparable(journalled(runs, trial)) for trial in self.trials}
        self.sent = {
            trial: comparable(_once(counted))
            for trial, counted in tracked(database, experiment).items()
        }
        for trial, journal in self.journals.items():  # MLflow has sums of them as well
            assert journal.items() <= self.sent[trial].items(), f"the undisturbed {trial}"

    def violations(self, runs: Path, database: Path, experiment: str) -> Iterator[str]:
        """Everything in which a disturbed sweep differs from this one."""
        if sorted(results(runs)) != self.trials:
            missing = set(self.trials) ^ set(results(runs))
            yield f"not the same trials have results: {sorted(missing)}"
        sent = tracked(database, experiment)
        for trial in sorted(set(self.trials) & set(results(runs))):
            if final_weights(runs, trial) != self.weights[trial]:
                yield f"{trial}: other final weights"
            newest = max(int(name) for name in os.listdir(runs / "trials" / trial / "attempts"))
            ended = json.loads(results(runs)[trial].read_bytes())["attempt"]
            if newest != ended:
                yield f"{trial}: attempt {newest} began after attempt {ended} had ended it"
            try:
                mine = comparable(journalled(runs, trial))
            except AssertionError as error:
                yield str(error)
                continue
            yield from _differences(f"{trial}, journal", self.journals[trial], mine)
            counted = sent.get(trial, Counter())
            times = Counter((key, step) for key, step, _ in counted.elements())
            doubled = sorted(point for point, number in times.items() if number > 1)
            if doubled:
                yield f"{trial}, MLflow: {len(doubled)} points doubled, {doubled[:SHOWN]}"
            mirrored = comparable(_once(counted))
            yield from _differences(f"{trial}, MLflow", self.sent[trial], mirrored)


def _once(counted: Counter[tuple[str, int, bytes]]) -> dict[Point, bytes]:
    return {(key, step): value for key, step, value in counted}


def _differences(
    where: str, expected: dict[Point, bytes], found: dict[Point, bytes]
) -> Iterator[str]:
    kinds: dict[str, list[Any]] = {
        "lost": sorted(expected.keys() - found.keys()),
        "that there should not be": sorted(found.keys() - expected.keys()),
        "with other values": sorted(
            point for point in expected.keys() & found.keys() if expected[point] != found[point]
        ),
    }
    for kind, points in kinds.items():
        if points:
            yield f"{where}: {len(points)} points {kind}, {points[:SHOWN]}"


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


def abandoned(names: set[str]) -> set[str]:
    """Those files of the shared memory that no process has mapped or open."""
    used = ""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            used += Path("/proc", pid, "maps").read_text()
            for handle in Path("/proc", pid, "fd").iterdir():
                with suppress(OSError):
                    used += f"{handle.readlink()}\n"
    return {name for name in names if f"/dev/shm/{name}" not in used}
