"""How long the end of a run waits for a tracker that may be slow, or never answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from orchestrator.hints import hint
from orchestrator.tracking.base import SYNC, TrackingUnavailable


class Patience:
    """A time, from its making on, after which nobody waits any more.

    A call that takes longer goes on in its thread, which does not keep the process alive: what it
    still sends is what `normsweep sync` would send, and nothing arrives twice.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds

    def wait_for(self, thread: threading.Thread) -> None:
        """Wait for a thread to end. Raises TrackingUnavailable if it takes too long."""
        thread.join(self._left())
        if thread.is_alive():
            raise self._over()

    def call(self, work: Callable[[], None]) -> None:
        """Call it and wait. Raises what it raises, and TrackingUnavailable if it takes too long."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, name="mlflow-last", daemon=True)
        if not self._left():
            raise self._over()
        thread.start()
        self.wait_for(thread)
        if errors:
            raise errors[0]

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def _over(self) -> TrackingUnavailable:
        return TrackingUnavailable(
            f"MLflow has not taken everything within {self._seconds:g} s of the last trial, so the "
            f"run ends without it. The store has everything: `{hint(SYNC)}` sends the rest, "
            "in order and each point once."
        )
