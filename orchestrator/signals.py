"""How signals end a command: the first SIGINT, SIGTERM or SIGHUP raises Interrupted.

It does so at the next line of Python, but where that is inside of Python's import or where Python
swallows exceptions (a finalizer, a weak reference's callback): then a moment later. `normsweep run`
works in a child process (orchestrator.run.driver), which leaves these signals to its parent; the
parent passes the first on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PASSED_ON = signal.SIGUSR2  # from the parent to the child that works
# `timeout` and some schedulers send a signal twice at once; a person who insists sends it later.
AGAIN_AFTER_S = 1.0
A_MOMENT_S = 0.01

received: signal.Signals | None = None
_received_at = 0.0
_is_waited_for = False
_is_owed = False  # Interrupted is still to be raised for what was received
_print_unraisable = sys.unraisablehook


def install() -> None:
    """Let the signals of ENDING end this process, except those that nohup ignores."""
    sys.unraisablehook = _at_unraisable
    for number in heeded():
        signal.signal(number, _end)


def heeded() -> list[signal.Signals]:
    """The signals of ENDING that this process heeds.

    An ignored SIGHUP stays ignored, since that is what nohup is for. An ignored SIGINT is heeded: a
    shell ignores it for a command with `&`, which nobody asked for.
    """
    return [
        number
        for number in ENDING
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]


def leave_to_parent() -> None:
    """In a child: block the signals of ENDING, for this process and all that it starts.

    They stay blocked when the whole process group gets them. PASSED_ON ends this process.
    """
    sys.unraisablehook = _at_unraisable
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    signal.signal(PASSED_ON, _end)


def _end(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted for the first signal; a later one ends the process at once."""
    global received, _received_at, _is_owed
    if received is None:
        received, _received_at = signal.Signals(number), time.monotonic()
        _is_owed = not _is_waited_for
    elif not _is_owed and time.monotonic() - _received_at > AGAIN_AFTER_S:
        os._exit(128 + received)
    if not _is_owed:
        return
    if frame is not None and "importlib" in frame.f_code.co_filename:
        _raise_soon(number)  # between its lock and its `try`, other threads would wait for ever
        return
    _is_owed = False
    raise Interrupted(received)


def _at_unraisable(swallowed: sys.UnraisableHookArgs) -> None:
    """Raise Interrupted again where Python has swallowed it; print any other as Python does."""
    global _is_owed
    if received is not None and issubclass(swallowed.exc_type, Interrupted):
        _is_owed = True
        _raise_soon(received)
    else:
        _print_unraisable(swallowed)


def _raise_soon(number: int) -> None:
    """Have the handler called again in a moment, which wakes the main thread if it waits."""
    main = threading.main_thread().ident
    again = threading.Timer(A_MOMENT_S, signal.pthread_kill, [main, number])
    again.daemon = True
    again.start()


@contextmanager
def waited_for() -> Iterator[None]:
    """A context in which signals raise nothing; the code inside looks at `received`."""
    global _is_waited_for
    check()
    _is_waited_for = True
    try:
        yield
    finally:
        _is_waited_for = False


def check() -> None:
    """Raise Interrupted if a signal has come.

    For use between stretches of code that may have swallowed the exception.
    """
    global _is_owed
    if received is not None:
        _is_owed = False
        raise Interrupted(received)
