"""The process that holds a lease: named so that others on its machine can tell that it is gone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Process = Mapping[str, Any]
BOOT, NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
STARTED = 19  # after the name, the place in /proc/PID/stat of the ticks at which it started


def this_process() -> dict[str, Any]:
    """This process: its id, when it started, and a digest of where such ids are counted.

    That is a machine since its last boot, and the container in it. Where the system does not say,
    the digest is empty, and the process never counts as gone.
    """
    where = ""
    with suppress(OSError):
        text = f"{BOOT.read_text()} {NAMESPACE.readlink()}"
        where = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {"where": where, "pid": os.getpid(), "started": _started(os.getpid())}


def is_gone(process: Process) -> bool:
    """Whether a process of this machine and container has ended. False for any that is elsewhere.

    Another process may have its id by now, but not its start.
    """
    here = this_process()["where"]
    if not here or process.get("where") != here or not isinstance(process.get("pid"), int):
        return False
    try:
        return _started(process["pid"]) != process.get("started")
    except OSError:  # too many files are open
        return False


def _started(pid: int) -> int | None:
    """The clock ticks from the machine's boot to the process's start; None if it has ended.

    Raises OSError if that cannot be read.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[STARTED])
