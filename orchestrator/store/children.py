"""Child processes for work on every core of this machine."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import ForkContext, SpawnContext

MOST = 8  # processes for one task
THREADED = ("grpc", "ray", "torch")  # packages that have threads which Python does not know


def cores() -> int:
    """How many processes are worth starting."""
    return min(len(os.sched_getaffinity(0)), MOST)


def context() -> ForkContext | SpawnContext:
    """How to start a child: as a fork, which has everything imported, unless there are threads.

    A lock that another thread holds would stay locked in a fork, as in the driver of a run.
    """
    if threading.active_count() > 1 or any(name in sys.modules for name in THREADED):
        return multiprocessing.get_context("spawn")
    return multiprocessing.get_context("fork")


def begin() -> None:
    """Prepare a child that has just been started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.SIG_DFL)  # a fork would raise Interrupted, as its parent
    gc.freeze()  # what a fork shares stays shared if it is not looked through


def is_orphaned() -> bool:
    """Whether the process that started this child has ended."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.pid != os.getppid()


def end_with_parent() -> None:
    """End this child as soon as the process that started it has ended, even if it is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
