"""Standard streams that never end the work, even where nothing can be written to them.

That is so for a reader that went away, a full disk, and a closed or an ASCII-only stream. After its
first error a stream discards what is written to it.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO, cast


class Unbroken:
    """A text stream that keeps its first error in `problem` instead of raising it.

    Characters that its encoding lacks are written as escapes.
    """

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
        """Discard what is written from now on, and what is still in the buffer.

        Otherwise the interpreter would fail to flush that buffer when it ends.
        """
        self.problem = self.problem or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def guard() -> None:
    """Make stdout and stderr unbroken, even if closed; call it once, before any file is opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # A closed descriptor: the next file to be opened, a database perhaps, would take its
            # number and receive what is printed. os.open takes the lowest free number, this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = cast(TextIO, Unbroken(sys.stdout or os.fdopen(1, "w", closefd=False)))
    sys.stderr = cast(TextIO, Unbroken(sys.stderr or os.fdopen(2, "w", closefd=False)))


def lost_output() -> str | None:
    """Why stdout could not be written, as a sentence.

    None if it could, and if its reader closed it, as `head` does.
    """
    sys.stdout.flush()
    problem = getattr(sys.stdout, "problem", None)
    if problem is None or problem.errno == errno.EPIPE:
        return None
    return f"The output could not be written: {problem.strerror or problem}."


def separate_stderr(log: int) -> None:
    """Send descriptor 2, which C++ libraries write to, to the file `log`.

    Python's own stderr goes on writing where it did.
    """
    sys.stderr.flush()
    sys.stderr = cast(TextIO, Unbroken(os.fdopen(os.dup(2), "w", buffering=1)))
    os.dup2(log, 2)
