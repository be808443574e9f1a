"""What is printed, where nobody reads it: a reader that went away, a full disk, a closed or an ASCII-only stream.

Output that cannot be written never ends what is being done: from its first error on, a stream leads nowhere.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO, cast


class Unbroken:
    """A text stream whose errors are kept in `problem` instead of raised. Characters that it lacks are written as escapes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.problem: OSError | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lead_nowhere(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lead_nowhere(error)

    def _lead_nowhere(self, error: OSError) -> None:
        """What still stands in the buffer goes the same way: the interpreter would stumble over it at its end."""
        self.problem = self.problem or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def guard() -> None:
    """Make stdout and stderr unbroken, closed ones included; call once, before anything is opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except (
            OSError
        ):  # otherwise the next file that is opened, a database perhaps, gets what is printed
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    sys.stdout = cast(TextIO, Unbroken(sys.stdout or os.fdopen(1, "w", closefd=False)))
    sys.stderr = cast(TextIO, Unbroken(sys.stderr or os.fdopen(2, "w", closefd=False)))


def lost_output() -> str | None:
    """Why stdout could not be written, as a sentence; None where it could, or where its reader had enough of it."""
    sys.stdout.flush()
    problem = getattr(sys.stdout, "problem", None)
    if problem is None or problem.errno == errno.EPIPE:
        return None
    return f"The output could not be written: {problem.strerror or problem}."


def separate_stderr(log: int) -> None:
    """Give the descriptor 2, to which libraries of C++ write, to the file `log`; Python goes on writing where it did."""
    sys.stderr.flush()
    sys.stderr = cast(TextIO, Unbroken(os.fdopen(os.dup(2), "w", buffering=1)))
    os.dup2(log, 2)
