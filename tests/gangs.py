"""The processes of a running sweep, and the moment that each trial is in: by /proc and its files.

Nothing of the project is asked, so that a test may believe what is seen here.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOT_TRAINING, STARTING, STEP, CHECKPOINT, SHIPPING, ENDING = (
    "no rank",
    "start-up",
    "training step",
    "checkpoint",
    "shipping",
    "end",
)
MOMENTS = (NOT_TRAINING, STARTING, STEP, CHECKPOINT, SHIPPING, ENDING)
TAIL_BYTES = 4_000


@dataclass
class Gang:
    """An attempt whose rank 0 runs. `out` is the run folder of that rank."""

    trial: str
    out: Path
    ranks: list[int]  # process ids, as are these
    workers: list[int] = field(default_factory=list)
    trainable: int | None = None
    nodes: list[str] = field(default_factory=list)  # Ray's ids

    def moment(self, runs: Path) -> str:
        """What rank 0 is doing. Takes a fraction of a millisecond."""
        with suppress(FileNotFoundError):  # a folder that is being removed
            return _moment(self.out, self.trial, runs)
        return NOT_TRAINING


def _moment(out: Path, trial: str, runs: Path) -> str:
    checkpoints = out / "checkpoints"
    names = sorted(os.listdir(checkpoints)) if checkpoints.exists() else []
    if names:
        if not (checkpoints / names[-1] / "manifest.rank-0.json").exists():
            return CHECKPOINT
        shipped = (runs / "trials" / trial / "checkpoints").glob(f"{names[-1]}-*/manifest.json")
        if not any(shipped):
            return SHIPPING
    if (out / "result.json").exists():
        return ENDING
    return STEP if _has_stepped(out / "journal.jsonl") else STARTING


def _has_stepped(journal: Path) -> bool:
    """Whether the journal of this attempt has come to the values of a step."""
    if not journal.exists():
        return False
    with journal.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().split(b"\n")[1 if file.tell() > TAIL_BYTES else 0 : -1]
    return any("train/loss" in json.loads(line).get("values", {}) for line in lines)


def commands() -> Iterator[tuple[int, list[str]]]:
    """Every process that lives, with its command line."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                words = Path("/proc", name, "cmdline").read_bytes().decode(errors="replace")
                if words:
                    yield int(name), words.rstrip("\0").split("\0")


def parent(pid: int) -> int:
    return int(_stat(pid)[1])


def session(pid: int) -> int:
    return int(_stat(pid)[3])


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def lives(pid: int) -> bool:
    """Whether a process is there that has not ended."""
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def descendants(of: int) -> set[int]:
    """The living processes below one, however deep."""
    children: dict[int, list[int]] = {}
    for pid, _ in commands():
        with suppress(OSError):
            children.setdefault(parent(pid), []).append(pid)
    found, waiting = set(), [of]
    while waiting:
        for pid in children.get(waiting.pop(), []):
            found.add(pid)
            waiting.append(pid)
    return {pid for pid in found if lives(pid)}


def kill(pid: int) -> bool:
    """SIGKILL; False if the process had ended already."""
    if not lives(pid):
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def running(runs: Path, actors: Callable[[], dict[str, Any]]) -> list[Gang]:
    """The gangs that train for the store in `runs` and have a rank 0 by now.

    `actors()` is Ray's table of actors. Takes some 10 ms.
    """
    ranks = dict(_ranks(str(runs / "work")))
    table = actors() if ranks else {}
    found = []
    for out, pid in ranks.items():
        trial, _, rest = out.name.partition("-rank-")
        if rest.startswith("0-"):
            whole = f"{trial}-rank-"
            theirs = [
                other
                for folder, other in ranks.items()
                if folder.parent == out.parent and folder.name.startswith(whole) and other != pid
            ]
            gang = Gang(trial, out, [pid, *theirs])
            with suppress(OSError, KeyError):  # it ends as we look
                _complete(gang, table)
            found.append(gang)
    return found


def _ranks(work: str) -> Iterator[tuple[Path, int]]:
    """Ranks by their run folders."""
    for pid, words in commands():
        if "trainers" in words and "--out" in words[:-1]:
            out = words[words.index("--out") + 1]
            if out.startswith(work):
                yield Path(out), pid


def _complete(gang: Gang, table: dict[str, Any]) -> None:
    """Note who hosts the gang: its worker actors, their trainable and their nodes."""
    by_pid = {actor["Pid"]: actor for actor in table.values() if actor["State"] == "ALIVE"}
    for rank in gang.ranks:
        worker = rank
        while worker > 1 and worker not in by_pid:
            worker = parent(worker)
        actor = by_pid[worker]
        gang.workers.append(worker)
        gang.nodes.append(actor["Address"]["NodeID"])
        owner = actor["OwnerAddress"]
        gang.trainable = next(
            (
                pid
                for pid, one in by_pid.items()
                if (one["Address"]["Port"], one["Address"]["NodeID"])
                == (owner["Port"], owner["NodeID"])
            ),
            None,
        )
