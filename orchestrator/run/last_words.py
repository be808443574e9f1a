"""What a rank leaves when its attempt fails: its output, its stacks, the state of its disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from orchestrator.errors import EnvironmentProblem, masked
from orchestrator.store.attempts import log_key
from orchestrator.store.base import Store

LOG = "rank.log"
MOST_LOG_BYTES, TAIL_BYTES = 1 << 18, 4_000
ABORT_WITHIN_S = 10.0
LITTLE_BYTES = 1 << 20  # with less, a disk counts as full


def keep_log(store: Store, trial_id: str, attempt: int, rank: int, out: Path) -> bool:
    """Put the end of a rank's output into the store, without the secrets of this environment.

    Returns whether it has printed anything.
    """
    text = log_tail(out, MOST_LOG_BYTES) if (out / LOG).exists() else ""
    if text.strip():
        store.put(log_key(trial_id, attempt, rank), masked(text).encode())
    return bool(text.strip())


def log_tail(out: Path, most_bytes: int = TAIL_BYTES) -> str:
    """The end of what a rank has printed."""
    path = out / LOG
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - most_bytes))
        return log.read().decode(errors="replace")


def stacks_of(pid: int, poll: Callable[[], int | None]) -> None:
    """End a rank by SIGABRT, at which faulthandler writes the stacks of its threads to its output.

    One that is stopped is continued for that. `poll` returns its exit code once it has ended.
    """
    with suppress(psutil.Error):
        # Its memory is of no use to anyone, and may be hundreds of GB.
        psutil.Process(pid).rlimit(psutil.RLIMIT_CORE, (0, 0))
    for one in (signal.SIGABRT, signal.SIGCONT):
        with suppress(ProcessLookupError):
            os.kill(pid, one)
    until = time.monotonic() + ABORT_WITHIN_S
    while poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    if poll() is None:
        os.kill(pid, signal.SIGKILL)


def disk_left(folder: Path, exit_code: int) -> str:
    """The folder and what is free, if its disk is or was full; "" if there is room.

    A rank that ends with the exit code of its machine's problems, and leaves no word of them, found
    no room for it. There may be room again by now.
    """
    free = shutil.disk_usage(folder).free
    was_full = free < LITTLE_BYTES or exit_code == EnvironmentProblem.exit_code
    return f"{folder}, {free / 1e6:.1f} MB free" if was_full else ""


def read_json(path: Path) -> dict[str, Any] | None:
    """A file that a rank writes as a whole; None before it has."""
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content
