"""A trainable's part in early stopping: reports of the metric, and the decision when there is one.

Tune sees one result for each value of the metric, in order. Ranks do not wait for what is decided,
so the checkpoint with which a stopped trial ends is of a somewhat later step than the decision.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.run.reports import Report
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import discard_checkpoints
from orchestrator.store.results import write_result
from orchestrator.store.stops import STOPPED, standing
from trainers.journal import encoded

LOOK_EVERY_S = 2.0  # at its gang, however many values wait to be reported
WATCHED = "watched"  # the value of the metric in a result of Tune
OF_THE_MACHINE = "system/"  # metrics that are no part of a result


@dataclass(frozen=True)
class Watch:
    """What the trials of a run are stopped by: `prefix` is where its decisions are kept.

    `about` is what a stopped trial's result says of the sweep and its settings.
    """

    metric: str
    prefix: str
    about: Mapping[str, str]


class Early:
    """Values of the metric that Tune has not seen yet, and the decision to stop, if it was made."""

    def __init__(self, watch: Watch | None, store: Store, trial_id: str) -> None:
        self._watch = watch
        self._waiting: deque[tuple[int, float]] = deque()
        self._looked = 0.0
        self._last: dict[str, float] = {}
        self._has_diverged = False
        self.decision = standing(store, watch.prefix, trial_id) if watch is not None else None

    @property
    def metric(self) -> str:
        return self._watch.metric if self._watch is not None else ""

    @property
    def waits(self) -> bool:
        """Whether Tune has still to judge a value."""
        return bool(self._waiting) and self.decision is None

    @property
    def has_news(self) -> bool:
        """Whether a value is to be reported before the next look at the gang."""
        return self.waits and time.monotonic() - self._looked < LOOK_EVERY_S

    def take(self, report: Report) -> None:
        """Take what rank 0 has journalled since the last look."""
        self._looked = time.monotonic()
        self._waiting += report.points
        self._last |= report.values
        self._has_diverged = (report.result or {}).get("outcome") == "diverged"

    def result(self) -> dict[str, Any]:
        """The fields that the next value of the metric gives a result of Tune, if there is one."""
        if not self.waits:
            return {}
        step, value = self._waiting.popleft()
        return {"step": step, WATCHED: value}

    def is_due(self, latest: Mapping[str, Any]) -> bool:
        """Whether the trial has to end now: it has reached the step for which that was decided.

        One that has diverged by then ends as diverged.
        """
        made = self.decision
        if made is None or self._has_diverged:
            return False
        return not latest["phase"] and int(latest["step"]) >= made.step

    @property
    def stopped_by(self) -> dict[str, Any]:
        """The decision as the trial's result has it."""
        made = self.decision
        assert made is not None
        assert self._watch is not None
        cutoff = None if made.cutoff is None else encoded(made.cutoff)
        numbers = {"rung": made.rung, "step": made.step, "value": encoded(made.value)}
        return {**self._watch.about, **numbers, "cutoff": cutoff}

    @property
    def metrics(self) -> dict[str, Any]:
        """The last value of each metric that this attempt has journalled."""
        return {
            name: encoded(value)
            for name, value in self._last.items()
            if not name.startswith(OF_THE_MACHINE)
        }

    def end(self, store: Store, trial_id: str, attempt: int, checkpoint: int) -> None:
        """Write the result of a trial that was stopped, with its checkpoint of that step.

        Raises Superseded, and EnvironmentProblem if this attempt has left no such checkpoint.
        """
        assert self._watch is not None
        write_result(
            store,
            trial_id,
            attempt,
            sweep=self._watch.about["sweep"],
            step=checkpoint,
            outcome=STOPPED,
            metrics=self.metrics,
            stopped_by=self.stopped_by,
        )
        discard_checkpoints(store, trial_id, keep=1)

    @property
    def step(self) -> int:
        """The step for which it was decided."""
        assert self.decision is not None
        return self.decision.step
