"""Preemption: SIGTERM asks a trial to end, and the loop answers with a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType


class Preemption:
    """`asked` is set by SIGTERM; the loop looks at it after every step."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)
        # The driver blocks it, and what it starts inherits that.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
