"""Starts a local Ray, or joins one: lean, with a token for all runs, again on a busy machine."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from orchestrator.errors import EnvironmentProblem

STARTS = 3  # tries at starting a local Ray
# What Ray starts beside itself: one process shows workers' logs in the driver's terminal, one asks
# clouds for nodes, and one is the dashboard, or what is left of it where none was asked for.
HELPERS = ("start_log_monitor", "start_monitor", "start_api_server")


def start_local(settings: dict[str, Any]) -> None:
    """Start a local Ray with these settings of `ray.init`. Raises EnvironmentProblem."""
    import ray

    keep_token(Path.home() / ".ray/auth_token")
    # Ray would say at every start that there is a token.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    with _without_helpers():
        start(lambda: ray.init(**settings), None)


def keep_token(file: Path) -> None:
    """Make the token by which Ray's processes know each other, unless this user has one.

    Ray (2.60) would do so without looking again whether there is one by now: of two first runs on
    a machine, the second would take away the token that the first has begun with.
    """
    is_elsewhere = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if file.exists() or is_elsewhere or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    with suppress(OSError):  # which Ray says better
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent) as beside:
            beside.write(secrets.token_hex(32))
            beside.flush()
            os.fsync(beside.fileno())
            os.link(beside.name, file)


@contextmanager
def _without_helpers() -> Iterator[None]:
    """Let Ray start none of HELPERS. They cost a run 4 s of CPU, and no setting leaves them out."""
    from ray._private.node import Node

    ours = {name: getattr(Node, name) for name in HELPERS if hasattr(Node, name)}
    for name in ours:
        setattr(Node, name, lambda self, **settings: None)
    try:
        yield
    finally:
        for name, method in ours.items():
            setattr(Node, name, method)


def start(init: Callable[[], object], address: str | None) -> None:
    """Start Ray by calling `init`, again if a busy machine was too slow. Raises EnvironmentProblem.

    Ray (2.60) gives its processes 30 s, which no setting changes, then raises a plain Exception.
    """
    others = set(psutil.Process().children(recursive=True))
    for left in reversed(range(STARTS if address is None else 1)):
        try:
            init()
            return
        except Exception as error:
            # Those of the start that failed.
            for process in set(psutil.Process().children(recursive=True)) - others:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if left == 0:
                where = (
                    "started on this machine"
                    if address is None
                    else f"reached at --address {address}"
                )
                said = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise EnvironmentProblem(
                    f"Ray cannot be {where}: {said}\n"
                    "Is the machine too busy, or out of memory or of room in "
                    f"{tempfile.gettempdir()}?"
                ) from error
