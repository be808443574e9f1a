"""Errors that are not our bug, each with its exit code. orchestrator.errors draws the whole tree.

The text of an error is for people: whole lines, and what would be right. It contains no password,
even where it quotes a library's message that does.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from typing import ClassVar

# `user:password@` in an address. The password may contain `/` or `@`, but what looks like a port
# after the colon is one.
USER_INFO = re.compile(r"(?<=://)(?:[^\s/@:\[]*:(?!\d+(?:[/\s'\"?,)]|$))\S*|[^\s/@]*)@")
PARAMETER = re.compile(r"(?i)\b(\w*(?:passw(?:or)?d|pwd|secret|token))=[^&\s'\"]+")
SECRETS = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
SHORTEST_SECRET = 6  # shorter ones would be found in ordinary words


def masked(text: str) -> str:
    """`text` without passwords of addresses and without the secrets of this environment."""
    text = PARAMETER.sub(r"\1=***", USER_INFO.sub("***@", text))
    for name in SECRETS:
        secret = os.environ.get(name, "")
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'Set5'?"` for a near miss of a known name, else `""`."""
    meant = closest(name, known)
    return "" if meant is None else f" Did you mean {meant!r}?"


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant by `name`; None if there is none like it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


class NormsweepError(Exception):
    """Any error that is not our bug. `kind` names the failure of a trial that it ends."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "other"

    def __str__(self) -> str:
        return masked(super().__str__())


class UserError(NormsweepError):
    """The user's file, flags, data or weights are wrong."""

    exit_code = 2


class EnvironmentProblem(NormsweepError):
    """The machine, the cluster or a service does not do what is needed of it."""

    exit_code = 3
