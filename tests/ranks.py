"""The ranks of a gang as processes. They are waited for together: a rank waits days for another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    """A port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_gang(module: str, *arguments: object, workers: int, logs: Path) -> list[str]:
    """Run `python -m MODULE ARGUMENTS...` as each rank of a gang; returns what each one printed."""
    place = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(workers),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ranks, files = [], [logs / f"rank-{rank}.log" for rank in range(workers)]
    for rank, file in enumerate(files):
        with file.open("w") as log:  # not a pipe: a rank would stop once it is full
            here = {**place, "RANK": str(rank)}
            ranks.append(subprocess.Popen(command, cwd=ROOT, env=here, stdout=log, stderr=log))
    wait_for_all(ranks, files, deadline_s=240)
    return [file.read_text() for file in files]


def wait_for_all(
    ranks: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path], *, deadline_s: float
) -> None:
    """Wait until all have ended well. The first to fail ends the others, and its log is shown."""
    until = time.monotonic() + deadline_s
    try:
        while any(rank.poll() is None for rank in ranks):
            for rank, log in zip(ranks, logs, strict=True):
                assert not rank.returncode, log.read_text()[-4000:]
            assert time.monotonic() < until, "\n".join(log.read_text()[-2000:] for log in logs)
            time.sleep(0.05)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    for rank, log in zip(ranks, logs, strict=True):
        assert rank.returncode == 0, log.read_text()[-4000:]
