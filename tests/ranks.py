"""Processes that are ranks of a gang: waited for together, since they wait for one another for days."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def wait_for_all(
    ranks: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path], *, deadline_s: float
) -> None:
    """Wait until all have ended well. The first that fails ends the others, and its log is the message."""
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
