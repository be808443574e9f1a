"""The tree of our errors. Whatever a user can cause ends in one of these; a traceback is our bug (exit code 1).

    NormsweepError
    |-- UserError            2   the user's file or flags
    |-- EnvironmentProblem   3   the machine, the cluster or a service
    `-- TrialsFailed         4   some trials failed, or a gate did not hold

    KeyboardInterrupt
    `-- Interrupted              ended by a signal: 129 SIGHUP, 130 SIGINT (Ctrl-C), 143 SIGTERM

The text of an error is what a person reads: whole lines, and what would be right.
"""

from __future__ import annotations

from signal import Signals
from typing import ClassVar


class NormsweepError(Exception):
    """Any error that is not our bug."""

    exit_code: ClassVar[int] = 1


class UserError(NormsweepError):
    """The user's file or flags are wrong."""

    exit_code = 2


class EnvironmentProblem(NormsweepError):
    """The machine, the cluster or a service does not do what is needed."""

    exit_code = 3


class TrialsFailed(NormsweepError):
    """Some trials failed, or a gate did not hold."""

    exit_code = 4


class Interrupted(KeyboardInterrupt):
    """Ended by a signal; what was done is kept. A KeyboardInterrupt, so that nothing catches it with the errors of its work."""

    def __init__(self, number: int) -> None:
        super().__init__(f"Ended by {Signals(number).name}.")
        self.exit_code = 128 + number
