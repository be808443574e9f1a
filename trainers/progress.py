"""What a rank is doing, for whoever started it: one line in the file `progress-rank-<r>`.

    17 step 12

A number that grows with every piece of work, the work, and the step at which it is done. The line
is written in place when a piece of work begins. A rank whose line does not change is not alive,
whatever its process says.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

STARTING, STEP, EVALUATION = "starting", "step", "evaluation"
PROBE, CHECKPOINT, ENDING = "probe", "checkpoint", "ending"
LINE_BYTES = 64
LINE = re.compile(rb"(\d{1,18}) ([a-z]{1,20}) (\d{1,18})\n *\n?")


@dataclass(frozen=True)
class Work:
    """A piece of work that a rank has begun.

    `beat` counts them, `what` is one of the words above, `step` the step of training.
    """

    beat: int
    what: str
    step: int


def progress_file(out: Path, rank: int) -> Path:
    return out / f"progress-rank-{rank}"


class Progress:
    """Writes the file of one rank. A call of `at` costs some microseconds."""

    def __init__(self, out: Path, rank: int) -> None:
        self._file = os.open(progress_file(out, rank), os.O_WRONLY | os.O_CREAT, 0o644)
        self._beat = 0
        self.at(STARTING, 0)

    def at(self, what: str, step: int) -> None:
        """Record that a piece of work begins."""
        self._beat += 1
        # Of one length, so that nothing of a longer line is left and no block is ever added.
        line = f"{self._beat} {what} {step}\n".ljust(LINE_BYTES - 1) + "\n"
        os.pwrite(self._file, line.encode(), 0)


def read_progress(out: Path, rank: int) -> Work | None:
    """What a rank is doing; None before it has said so."""
    try:
        found = LINE.match(progress_file(out, rank).read_bytes())
    except FileNotFoundError:
        return None
    return Work(int(found[1]), found[2].decode(), int(found[3])) if found else None
