"""Starts the ranks of one worker: forked from a warm process, or afresh where that cannot be.

The warm process (trainers.warm) is the worker's own, so it has the worker's environment and GPUs,
and ends with it. It imports while the worker prepares the first attempt, and stays for the next.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from trainers.warm import LISTEN_FD, MESSAGE_BYTES, ROOM

PROJECT = str(Path(__file__).parents[2])
# For imports on a machine that is busy with other things. A rank started afresh has no deadline.
FORK_WITHIN_S = 300.0
LOG_TAIL_BYTES = 2_000


class Rank(Protocol):
    """A rank's process. Its methods are those of subprocess.Popen."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...

    def send_signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


class Forked:
    """A rank that the warm process at the other end of `connection` has forked."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection
        self._exit_code: int | None = None
        # A number may be another process's by the time that it gets a signal; this is not.
        try:
            self._handle: int | None = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            self._handle = None

    def poll(self) -> int | None:
        return self._received(wait=False)

    def wait(self) -> int:
        code = self._received(wait=True)
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self._handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _received(self, *, wait: bool) -> int | None:
        if self._exit_code is None:
            self._connection.settimeout(None if wait else 0.0)
            try:
                said = self._connection.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return None
            except ConnectionError:
                said = b""
            # Without its warm process, the kernel has killed the rank.
            self._exit_code = json.loads(said)["exit"] if said else -signal.SIGKILL
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
        return self._exit_code


class Ranks:
    """Starts ranks one after the other, all with `environment` and what each has besides.

    `cuda` says whether they have a GPU.
    """

    def __init__(self, environment: Mapping[str, str], *, cuda: bool) -> None:
        self._environment = dict(environment)
        self._cuda = cuda
        self._connection: socket.socket | None = None
        self._warm: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        if hasattr(os, "pidfd_open"):  # Linux
            self._warm_up()

    def start(
        self,
        arguments: Sequence[str],
        own: Mapping[str, str],
        log: Path,
        listening: socket.socket | None = None,
    ) -> Rank:
        """Start `python -m trainers ARGUMENTS`, whose output goes to `log`.

        `own` is added to its environment. It inherits `listening`, and dies with this process.
        """
        environment = {**self._environment, **own}
        with log.open("wb") as file:
            if self._connection is not None:
                fds = [file.fileno(), *([listening.fileno()] if listening else [])]
                rank = fork(self._connection, arguments, environment, fds)
                if rank is not None:
                    return rank
                file.write(self._why_not().encode(errors="replace"))
                file.flush()
            return _fresh(arguments, environment, file, listening)

    def end(self) -> None:
        """End the warm process, and with it a rank that still runs."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._warm is not None:
            self._warm.kill()
            self._warm.wait()
            self._warm = None
        if self._said is not None:
            self._said.close()
            self._said = None

    def _warm_up(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._connection, theirs):  # an environment can be larger than the default
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
        command = [sys.executable, "-P", "-m", "trainers.warm", "--end-with", str(os.getpid())]
        command += ["--socket", str(theirs.fileno()), *(["--cuda"] if self._cuda else [])]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `end`
        with theirs:
            self._warm = subprocess.Popen(
                [*command, "--room", ROOM],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )

    def _why_not(self) -> str:
        """End the warm process that did not answer, and say what it said."""
        assert self._warm is not None
        assert self._said is not None
        try:
            how = f"ended with exit code {self._warm.wait(timeout=1.0)}"
        except subprocess.TimeoutExpired:
            how = "did not answer"
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        said = self._said.read().decode(errors="replace")
        self.end()
        return f"The process that forks ranks {how}; this one is started afresh.\n{said}"


def fork(
    connection: socket.socket,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    fds: Sequence[int],
) -> Forked | None:
    """Have the warm process at the other end fork a rank. None if it does not in time.

    `fds` are the rank's log and perhaps a listening socket.
    """
    order = {"arguments": arguments, "environment": environment}
    connection.settimeout(FORK_WITHIN_S)
    try:
        socket.send_fds(connection, [json.dumps(order).encode()], fds)
        said = connection.recv(MESSAGE_BYTES)
    except OSError:  # a time-out is one
        said = b""
    return Forked(json.loads(said)["pid"], connection) if said else None


def _fresh(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log: IO[bytes],
    listening: socket.socket | None,
) -> subprocess.Popen[bytes]:
    """Start a rank as a process of its own."""
    inherited = [] if listening is None else [listening.fileno()]
    more = {LISTEN_FD: str(inherited[0])} if inherited else {}
    return subprocess.Popen(
        # `-P` keeps modules of the working folder, perhaps a `copy.py`, from hiding those of
        # libraries.
        [sys.executable, "-P", "-m", "trainers", *arguments, "--end-with", str(os.getpid())],
        env={**environment, **more},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=inherited,
    )
