"""Whether a rank is alive: by its progress file, never by a timer or by its process (decision 25).

The worker that hosts a rank looks at the file whenever it is asked for a report. What counts is how
long the line has not changed, on the worker's own clock.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainers.progress import CHECKPOINT, ENDING, EVALUATION, PROBE, STARTING, STEP, read_progress

VARIABLE = "NORMSWEEP_HUNG_AFTER_S"
LEAST_S = 60.0
TIMES_MEDIAN = 20.0
# How many times the least deadline each piece of work may take, once one of its kind has ended.
# Steps are alike; images differ in size, and a checkpoint may go to a slow disk. A start ends with
# the decoding of a data set, for which the others on the node wait.
PATIENCE: Mapping[str, float] = {
    STEP: 1.0,
    EVALUATION: 10.0,
    PROBE: 10.0,
    CHECKPOINT: 10.0,
    ENDING: 10.0,
    STARTING: 240.0,
}
# The first of a kind compiles kernels, fills caches and waits for the slowest rank.
FIRST = 30.0
KEPT = 101
# A look that comes later than this was itself held up, by a shipment or because this process was
# stopped as well, and says nothing about the rank in the meantime.
MOST_BETWEEN_LOOKS_S = 5.0


def least_deadline_s() -> float:
    """The least deadline on this node: NORMSWEEP_HUNG_AFTER_S, or 60 s."""
    try:
        given = float(os.environ.get(VARIABLE, ""))
    except ValueError:
        return LEAST_S
    return given if given > 0 else LEAST_S


def deadline_s(what: str, lasted_s: Sequence[float], least_s: float = LEAST_S) -> float:
    """How long a rank may be at one piece of work before it counts as hung, in seconds.

        deadline = max(least * patience(what), 20 * median(lasted))

    `lasted` are the times that its pieces of work of this kind have taken in this attempt: steps,
    restored images, probes, checkpoints. `patience` is 1 for steps, 10 for the others, 30 for the
    first of each, and 240 for the start, in which data are staged: 1 min, 10 min, 30 min and 4 h
    with the default least deadline of 60 s.
    """
    patience = PATIENCE.get(what, FIRST)
    if not lasted_s:
        return least_s * max(FIRST, patience)
    return max(least_s * patience, TIMES_MEDIAN * statistics.median(lasted_s))


@dataclass(frozen=True)
class Pulse:
    """What a rank does, for how long already, and how long that may take."""

    what: str
    step: int
    idle_s: float
    deadline_s: float
    least_s: float = LEAST_S
    is_stopped: bool = False  # by SIGSTOP or from a terminal

    def __str__(self) -> str:
        stopped = ", its process stopped (SIGSTOP)" if self.is_stopped else ""
        place = "at the start" if self.what == STARTING else f"in {self.what} {self.step}"
        if self.what not in (STEP, STARTING):
            place = f"in the {self.what} at step {self.step}"
        return f"{place} for {self.idle_s:.0f} s of at most {self.deadline_s:.0f} s{stopped}"


class PulseTaker:
    """Takes the pulse of the rank that writes its progress to `out`."""

    def __init__(
        self,
        out: Path,
        rank: int,
        least_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out, self._rank, self._clock = out, rank, clock
        self._least_s = least_deadline_s() if least_s is None else least_s
        self._lasted: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._beat, self._what, self._step = 0, STARTING, 0
        self._idle_s = 0.0
        self._looked_at = clock()

    def take(self, pid: int) -> Pulse:
        """Look at the file. Only a rank without news for a while costs a look at its process."""
        now = self._clock()
        self._idle_s += min(now - self._looked_at, MOST_BETWEEN_LOOKS_S)
        self._looked_at = now
        work = read_progress(self._out, self._rank)
        if work is not None and work.beat != self._beat:
            # Of several pieces of work between two looks, each is taken to have lasted as long.
            took_s = self._idle_s / max(1, work.beat - self._beat)
            if self._beat:
                self._lasted[self._what].append(took_s)
            self._beat, self._what, self._step = work.beat, work.what, work.step
            self._idle_s = 0.0
        allowed = deadline_s(self._what, self._lasted[self._what], self._least_s)
        is_stopped = self._idle_s > self._least_s / 2 and _is_stopped(pid)
        return Pulse(self._what, self._step, self._idle_s, allowed, self._least_s, is_stopped)


def _is_stopped(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def hung(pulses: Sequence[Pulse | None]) -> tuple[int | None, str] | None:
    """The rank that holds up its gang, and a sentence; None while the gang is alive.

    `pulses` has None for ranks that have ended. One rank that works keeps the gang alive, since the
    others may be waiting for it. A rank whose process is stopped does not work, whatever it does.
    If nothing tells the ranks apart, the first part is None.
    """
    live = {rank: pulse for rank, pulse in enumerate(pulses) if pulse is not None}
    stopped = [
        rank for rank, pulse in live.items() if pulse.is_stopped and pulse.idle_s > pulse.least_s
    ]
    if not live or not (stopped or all(p.idle_s > p.deadline_s for p in live.values())):
        return None
    behind = min(pulse.step for pulse in live.values())
    last = [rank for rank, pulse in live.items() if pulse.step == behind]
    named = stopped or (last if len(last) < len(live) or len(live) == 1 else [])
    if named:
        rank = named[0]
        return rank, f"rank {rank} has made no progress, {live[rank]}"
    each = "; ".join(f"rank {rank} {pulse}" for rank, pulse in live.items())
    return None, f"no rank has made progress: {each}"
