"""A process that has imported what a rank needs, and forks ranks: their start costs no imports.

    python -m trainers.warm --end-with PID --socket FD [--cuda]

FD is one end of a pair of SOCK_SEQPACKET sockets. A message is a JSON object:

    {"arguments": [...], "environment": {...}}   to it, with the rank's log as a file descriptor and
                                                 perhaps a listening socket: run a rank
    {"pid": 123}                                 from it: the rank has been forked
    {"exit": 0}                                  from it: the rank has ended; a signal is negative

A rank is `python -m trainers` with these arguments and exactly this environment. It begins as a
copy of a process that has drawn no random number, started no thread, initialised no CUDA and
imported nothing of the user's, so it computes the bits of one that is started afresh
(docs/decisions/0027). What is read when a library is loaded (OMP_NUM_THREADS, CUDA_VISIBLE_DEVICES,
DS_ACCELERATOR) is this process's: whoever starts it gives it that of its ranks.

One rank at a time. It dies with this process, and both with whoever holds the other socket.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

LISTEN_FD = "NORMSWEEP_LISTEN_FD"  # as trainers.process_group has it
# The size of a message; an environment can be large.
MESSAGE_BYTES = 1 << 20
# Room in this process's command line, over which a rank writes its own for `ps` to show.
ROOM = " " * 4_000
ARG_START, ARG_END = 45, 46  # fields of /proc/self/stat after the command's name


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trainers.warm", description=__doc__)
    parser.add_argument("--end-with", type=int, required=True, metavar="PID")
    parser.add_argument("--socket", type=int, required=True, metavar="FD")
    parser.add_argument("--cuda", action="store_true", help="ranks use CUDA where torch sees it")
    parser.add_argument("--room", help=argparse.SUPPRESS)
    options = parser.parse_args()
    from trainers.__main__ import end_with

    end_with(options.end_with)
    connection = socket.socket(fileno=options.socket)
    import_all(may_use_cuda=options.cuda)
    if why := unfit():
        print(f"no rank can be forked from here: {why}", file=sys.stderr)
        return 1
    # What is here now is neither collected nor, by counting, written to in a rank.
    gc.collect()
    gc.freeze()
    sys.stdout.flush()  # or every rank would write it again
    serve(connection)
    return 0


def import_all(*, may_use_cuda: bool) -> None:
    """Import what ranks import, but nothing of the user's."""
    from PIL import Image

    from trainers import loop  # noqa: F401
    from trainers.catalog import BACKBONES, METRICS, NORMS, PROBES, TASKS
    from trainers.engine import import_deepspeed

    for catalog in (BACKBONES, METRICS, NORMS, PROBES, TASKS):
        for entry in catalog:  # those of installed packages are not among them
            entry.load()
    os.environ["DS_ACCELERATOR"] = "cuda" if may_use_cuda and _sees_cuda() else "cpu"
    import_deepspeed()
    # What the first engine and the first step of an optimiser would import.
    for name in ("deepspeed.module_inject.auto_ep_config", "torch._dynamo"):
        importlib.import_module(name)
    Image.preinit()  # the decoders, in the order in which opening a file would register them


def _sees_cuda() -> bool:
    """Whether torch sees a CUDA device. Asked in a fork, since asking may initialise CUDA."""
    import torch

    return _holds_in_a_fork(torch.cuda.is_available)


def _computes_on_cuda() -> bool:
    import torch

    return torch.ones(1, device="cuda").item() == 1.0


def _holds_in_a_fork(condition: Callable[[], bool]) -> bool:
    if (pid := os.fork()) == 0:
        code = 1
        with suppress(Exception):
            code = 0 if condition() else 1
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def unfit() -> str:
    """Why a fork of this process would not be like a fresh one; empty if it would be."""
    if os.environ["DS_ACCELERATOR"] == "cuda" and not _holds_in_a_fork(_computes_on_cuda):
        return "CUDA does not work in a fork of this process"
    if (others := threading.active_count() - 1) > 0:
        return f"{others} other threads run, which a fork would lack"
    return ""


def serve(connection: socket.socket) -> None:
    """Fork a rank for every order until the other end is closed."""
    while True:
        said, fds, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 2)
        if not said:
            return
        order = json.loads(said)
        server = os.getpid()
        if (pid := os.fork()) == 0:
            connection.close()
            _rank(order["arguments"], order["environment"], fds, server)
        for fd in fds:
            os.close(fd)
        _tell(connection, {"pid": pid})
        _tell(connection, {"exit": _wait(pid, connection)})


def _tell(connection: socket.socket, message: Mapping[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the next receipt finds that the other end is closed
        connection.send(json.dumps(message).encode())


def _wait(pid: int, connection: socket.socket) -> int:
    """Wait for a rank, and return its exit code. It is killed if the other end is closed."""
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(connection, 0)  # without any, it says when the other end is closed
    if all(fd != ended for fd, _ in poll.poll()):
        os.kill(pid, signal.SIGKILL)
    os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _rank(
    arguments: Sequence[str], environment: Mapping[str, str], fds: Sequence[int], server: int
) -> NoReturn:
    """Be a rank, in a fork of this process."""
    code = 1
    try:
        log, *listening = fds
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.environ.clear()
        os.environ.update(environment)
        if listening:
            os.environ[LISTEN_FD] = str(listening[0])
        sys.argv = [str(Path(__file__).with_name("__main__.py")), *arguments]
        arguments = [*arguments, "--end-with", str(server)]
        _show([*sys.orig_argv[: sys.orig_argv.index("-m")], "-m", "trainers", *arguments])
        _draw_anew()
        from trainers.__main__ import main as rank

        code = rank(list(arguments))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        # At an interpreter's usual end, torch takes a third of a second to tidy up.
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _draw_anew() -> None:
    """Seed NumPy's global generator from the system, as an import does. Python's own does it."""
    import numpy as np

    np.random.seed()


def _show(command: Sequence[str]) -> None:
    """Write a command over this process's, so that `ps` and people see which trial it trains."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[ARG_START]), int(fields[ARG_END])
    words = b"\0".join(map(os.fsencode, command))[: end - start - 1]
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    sys.exit(main())
