"""Turns whatever a verb raises into an exit code and a message."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable

import typer

from orchestrator import signals
from orchestrator.errors import NormsweepError
from orchestrator.home import usable_home


def exit_code(call: Callable[[], int]) -> int:
    """The exit code of a call that may raise anything.

    Prints what went wrong; a traceback only if it is our bug.
    """
    try:
        usable_home()
        code = call()
        signals.check()
        return code
    except NormsweepError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 128 + (signals.received or signal.SIGINT)
    except Exception as error:
        if signals.received is not None:  # a library has turned the signal into its own error
            return 128 + signals.received
        if (shown := getattr(error, "show", None)) is None:  # typer's errors have it
            traceback.print_exc()
            return 1
        shown()
        return getattr(error, "exit_code", 2)
