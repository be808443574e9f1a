"""From whatever a verb raises to an exit code and what is printed."""

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
    """Of a call that may raise anything: what went wrong is printed, a traceback only for what is our bug."""
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
        if signals.received is not None:  # what a library made of the signal
            return 128 + signals.received
        if (shown := getattr(error, "show", None)) is None:
            traceback.print_exc()
            return 1
        shown()
        return getattr(error, "exit_code", 2)
