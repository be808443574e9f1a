"""How signals end a command: SIGINT, SIGTERM and SIGHUP raise one Interrupted, at the next line of Python.

Where `normsweep run` works, in a child process (orchestrator.run.driver), they are left to the parent, which passes the first on.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PASSED_ON = signal.SIGUSR2  # from the parent to the child that works
# `timeout` and some schedulers send twice at once; a person who means it does so later.
AGAIN_AFTER_S = 1.0

received: signal.Signals | None = None
_received_at = 0.0
_is_waited_for = False


def install() -> None:
    """Let the signals of ENDING end this process. What nohup has had ignored stays ignored."""
    for number in heeded():
        signal.signal(number, _end)


def heeded() -> list[signal.Signals]:
    """Those of ENDING that this process heeds. A shell's `&` has SIGINT ignored, which nobody asked for; SIGHUP is nohup's."""
    return [
        number
        for number in ENDING
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]


def leave_to_parent() -> None:
    """In a child: neither this process nor what it starts hears the signals of ENDING, also where its whole group gets them.

    It ends on PASSED_ON.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    signal.signal(PASSED_ON, _end)


def _end(number: int, frame: FrameType | None) -> None:
    global received, _received_at
    if received is None:
        received, _received_at = signal.Signals(number), time.monotonic()
        if not _is_waited_for:
            raise Interrupted(received)
    elif time.monotonic() - _received_at > AGAIN_AFTER_S:
        os._exit(128 + received)


@contextmanager
def waited_for() -> Iterator[None]:
    """A context in which a signal raises nothing: the code inside looks at `received`."""
    global _is_waited_for
    check()
    _is_waited_for = True
    try:
        yield
    finally:
        _is_waited_for = False


def check() -> None:
    """Raise Interrupted where a signal has come: between stretches of code that might have swallowed it."""
    if received is not None:
        raise Interrupted(received)
