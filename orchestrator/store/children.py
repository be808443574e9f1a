"""Child processes for work on every core of this machine."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from orchestrator.errors import EnvironmentProblem

MOST = 8  # processes for one task
T = TypeVar("T")
# Packages that have threads which Python does not know.
THREADED = ("grpc", "obstore", "ray", "torch")


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


def is_cheap() -> bool:
    """Whether a child may run beside this process, and need not import everything again."""
    return cores() > 1 and isinstance(context(), ForkContext)


def apart(work: Callable[..., T], *args: Any) -> Callable[[], T]:
    """Begin `work(*args)` in a child. The answer waits for what it returns.

    If the child is killed or meets an EnvironmentProblem, the answer does the work itself.
    """
    of_child = context()
    reader, writer = of_child.Pipe(duplex=False)
    process = of_child.Process(target=_work, args=(reader, writer, work, args), daemon=True)
    process.start()
    writer.close()  # so that the pipe ends with the child
    return lambda: _received(reader, process, lambda: work(*args))


def _work(
    reader: Connection, writer: Connection, work: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    reader.close()
    begin()
    end_with_parent()
    # The parent does the work, meets the problem too and says it; or it waits no more.
    with suppress(EnvironmentProblem, BrokenPipeError):
        writer.send(work(*args))


def _received(reader: Connection, process: BaseProcess, here: Callable[[], T]) -> T:
    try:
        found: T = reader.recv()
    except (EOFError, OSError):  # it was killed
        return here()
    finally:
        reader.close()
        process.join()
    return found


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
