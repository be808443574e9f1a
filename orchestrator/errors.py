"""The tree of our errors. Whatever a user can cause ends in one of these; a traceback is our bug (exit code 1).

    NormsweepError
    |-- UserError            2   the user's file or flags
    |-- EnvironmentProblem   3   the machine, the cluster or a service
    `-- TrialsFailed         4   some trials failed, or a gate did not hold

    KeyboardInterrupt
    `-- Interrupted              ended by a signal: 129 SIGHUP, 130 SIGINT (Ctrl-C), 143 SIGTERM

The text of an error is what a person reads: whole lines, and what would be right. No password stands in it, whatever a
library has put into the message that it quotes.
"""

from __future__ import annotations

import os
import re
from signal import Signals
from typing import ClassVar

# user:password@ of an address. What follows a colon may also hold `/` or `@`, but not where a port stands there.
USER_INFO = re.compile(r"(?<=://)(?:[^\s/@:\[]*:(?!\d+(?:[/\s'\"?,)]|$))\S*|[^\s/@]*)@")
PARAMETER = re.compile(r"(?i)\b(\w*(?:passw(?:or)?d|pwd|secret|token))=[^&\s'\"]+")
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SHORTEST_SECRET = 6  # shorter ones would be found in ordinary words


def masked(text: str) -> str:
    """`text` without the passwords of addresses and without the secrets of this process's environment."""
    text = PARAMETER.sub(r"\1=***", USER_INFO.sub("***@", text))
    for name in SECRETS:
        secret = os.environ.get(name, "")
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


class NormsweepError(Exception):
    """Any error that is not our bug."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        return masked(super().__str__())


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
