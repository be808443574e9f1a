"""`normsweep run` as two processes: a child that works, and a parent that attends to signals.

When its raylet or control store dies, Ray ends the driver on the spot, from C++ and with a dump; a
SIGTERM in the middle of its work makes it abort. So the driver is a child process that signals do
not reach. The parent passes the first one on, waits for checkpoints for a bounded time, says how
the child ended, and leaves no process behind. What Ray prints on its way out goes to a log. If the
parent is killed outright, the kernel kills the child, and Ray with it.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator import signals
from orchestrator.errors import EnvironmentProblem, masked
from orchestrator.run.folders import remove_left
from orchestrator.run.options import RunOptions
from orchestrator.streams import lost_output, separate_stderr
from orchestrator.tracking.address import FLAG
from trainers.data.lookup import named_roots

END_WITHIN_S = 120.0  # from the first signal to the end, whatever still ships
KILLED_WITHIN_S = 10.0
SETTLED = frozenset({0, 2, 4})  # exit codes that leave no attempt open
LOG_TAIL_BYTES = 4_000
LAST_LINES = 12
SHOW_CURSOR = "\x1b[?25h"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def the_command() -> str:
    """The command as it was given, quoted for a shell, with what it had from variables."""
    script, *arguments = sys.argv
    more = from_variables(arguments)
    if Path(script).name == "__main__.py":
        return shlex.join([*sys.orig_argv, *more])
    found = shutil.which(Path(script).name)
    if found is not None and Path(found).resolve() == Path(script).resolve():
        script = Path(script).name
    return shlex.join([script, *arguments, *more])


def from_variables(arguments: Sequence[str]) -> list[str]:
    """The flags that a command lacks to find its store, MLflow and data wherever it is entered.

    An address with a password is left to its variable.
    """
    if _settings is None:
        return []
    tracking = _settings.tracking
    flags = {"--store": _settings.store, FLAG: tracking if masked(tracking) == tracking else ""}
    given = {argument.partition("=")[0] for argument in arguments}
    more = [
        word
        for flag, value in flags.items()
        if value and flag not in given
        for word in (flag, value)
    ]
    return [*more, *(word for root in named_roots() for word in ("--data", root))]


@dataclass(frozen=True)
class Death:
    """How a driver died: its status from waitpid, the cause if it named one, the end of its log."""

    status: int
    cause: str
    log: str

    def __str__(self) -> str:
        if self.cause:
            return self.cause
        code = os.waitstatus_to_exitcode(self.status)
        how = (
            f"was killed by {signal.Signals(-code).name}"
            if code < 0
            else f"was ended by Ray with exit code {code}"
        )
        return f"The driver of this run {how}"

    def last_lines(self) -> str:
        """The end of its log, if it named no cause: then that is all there is to go by."""
        lines = [] if self.cause else self.log.splitlines()[-LAST_LINES:]
        return "\n".join(["", "It wrote last:", *lines, ""]) if lines else " "


def drive(
    work: Callable[[], int],
    close: Callable[[str, str], None],
    at_signal: str = "saving checkpoints first",
    settings: RunOptions | None = None,
) -> int:
    """Run `work()` in a child process, where it must not raise, and return its exit code.

    `close(kind, message)` is called in this process if the child ended before it had closed its
    trials' attempts. `at_signal` says what the child does when a signal comes. `settings` complete
    the command that would continue. Raises EnvironmentProblem if the child died, Interrupted if a
    signal ended it.
    """
    global _settings
    _settings = settings
    # Blocked from before the fork, so that none is missed: `_wait` takes them by sigtimedwait.
    heard = {*signals.heeded(), signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*heard, signals.PASSED_ON})
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the child become ours, for `_end_all` to find
    said, says = os.pipe()
    with os.fdopen(os.memfd_create("ray"), "w+b") as log:
        parent, child = os.getpid(), os.fork()
        if child == 0:
            os.close(said)
            _work(work, parent, says, log.fileno())
        os.close(says)
        status, stopped_by = _wait(child, heard, at_signal)
        _end_all()
        remove_left(None if settings is None else settings.store)
        with os.fdopen(said) as pipe:
            word = pipe.read()
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        death = Death(
            status, word.removeprefix("lost: "), masked(log.read().decode(errors="replace"))
        )
    code = os.waitstatus_to_exitcode(status)
    has_closed = word == "ended"
    if not has_closed and sys.stderr.isatty():
        sys.stderr.write(SHOW_CURSOR)  # which the live table had hidden
    if stopped_by is not None:
        if not has_closed:
            close("interrupted", f"ended by {stopped_by.name}")
        print(
            f"Ended by {stopped_by.name}. What is done is kept. To continue: {the_command()}",
            file=sys.stderr,
        )
        signals.received = stopped_by
    elif not has_closed:
        close("ray lost", str(death) if death.cause else f"{death}\n{death.log}".rstrip())
        raise EnvironmentProblem(
            f"{death}.{death.last_lines()}What is done is kept. To continue: {the_command()}"
        )
    elif code not in SETTLED:
        close("interrupted", f"the driver ended with exit code {code}")
    signals.check()
    return code


def _work(work: Callable[[], int], parent: int, says: int, log: int) -> None:
    """Call `work()` in the child. Does not return."""
    signals.leave_to_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD, signals.PASSED_ON])
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # which died before the kernel was asked to kill us with it
        os._exit(1)
    separate_stderr(log)
    global _lost
    _lost = says
    code = 1
    try:
        code = work()
        if (unwritten := lost_output()) is not None:
            print(unwritten, file=sys.stderr)
        sys.stderr.flush()
        os.write(says, b"ended")
    except BaseException:  # such as SystemExit, by which a library may mean to end us
        os.write(log, traceback.format_exc().encode())
    finally:
        # Nothing is left to tidy up, and at an interpreter's usual end Ray takes half a second.
        os._exit(code)


_lost: int | None = None
_settings: RunOptions | None = None  # of the run that this process drives


def lost(cause: str) -> None:
    """End the child at once, because something that it needs has died. `cause` is a clause."""
    if _lost is not None:
        os.write(_lost, f"lost: {cause}".encode())
    os._exit(EnvironmentProblem.exit_code)


def _wait(
    child: int, heard: set[signal.Signals], at_signal: str
) -> tuple[int, signal.Signals | None]:
    """Wait for the child; returns its status, and the signal that this process got, if any.

    The child is killed if it takes too long to end, or if Ctrl-C comes after the first signal.
    """
    stopped_by: signal.Signals | None = None
    since = 0.0
    while True:
        got = signal.sigtimedwait(heard, 1.0)
        if got is not None and got.si_signo not in heard:
            # CPython (3.11) returns what was in memory if its call was interrupted, as by a
            # debugger or Ctrl-Z and `fg`, and the time is over by then.
            got = None
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                return ended[1], stopped_by
        waited = time.monotonic() - since
        if stopped_by is not None:
            # Only a person is impatient. A pod that is deleted gets SIGTERM from Ray's job agent,
            # and again from its preStop hook.
            is_impatient = got is not None and got.si_signo == signal.SIGINT
            if waited > END_WITHIN_S or (is_impatient and waited > signals.AGAIN_AFTER_S):
                os.kill(child, signal.SIGKILL)
        elif got is not None and got.si_signo != signal.SIGCHLD:
            stopped_by, since = signal.Signals(got.si_signo), time.monotonic()
            os.kill(child, signals.PASSED_ON)
            print(
                f"{stopped_by.name}: {at_signal}. Ctrl-C ends it at once.",
                file=sys.stderr,
            )


def _end_all() -> None:
    """Kill what the child left behind: its orphans have become this process's children."""
    until = time.monotonic() + KILLED_WITHIN_S
    me = psutil.Process()
    while (left := me.children(recursive=True)) and time.monotonic() < until:
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.02)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
