"""Lets MLflow follow a run from a thread, so that nothing that MLflow does holds up trials.

While MLflow is away, the thread tries again every ten seconds. At the end of the run it gets the
rest within a bounded time, or the run says which command sends it later.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Mapping
from functools import partial

from orchestrator.errors import NormsweepError
from orchestrator.hints import hint
from orchestrator.plan import Plan, Trial
from orchestrator.run.options import RunOptions
from orchestrator.run.patience import Patience
from orchestrator.run.progress import Progress
from orchestrator.store.base import Store
from orchestrator.store.trials import Look
from orchestrator.tracking import open_tracker, shown
from orchestrator.tracking.base import SYNC, TrackingUnavailable
from orchestrator.tracking.mirror import Mirror

SENT_WITHIN_S = 15.0  # from the last trial's end
REPORT_WITHIN_S = 8.0  # from its being written
MIRROR_EVERY_S = 10.0  # new journal segments come no more often


class Follower:
    """MLflow as it follows a run, from `thread`. A context manager: the run ends with its block.

    `mirror` is None until MLflow has answered once. `has_begun` says that it has had what the store
    held at the beginning.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        options: RunOptions,
        looks: Mapping[str, Look],
        reused: frozenset[str],
        progress: Progress,
    ) -> None:
        """`looks`: the trials before this run, of which those in `reused` are done."""
        self.mirror: Mirror | None = None
        self._plan, self._store, self._options = plan, store, options
        self._looks, self._reused, self._progress = looks, reused, progress
        self._moved: frozenset[str] = frozenset()  # and not yet mirrored
        self.has_begun = self._has_all = False
        self._said_away = self._said_back = False
        self._over = threading.Event()
        # Imports MLflow, here and not in the thread, beside the import of Ray.
        open_tracker(options.tracking, plan)
        self.thread = threading.Thread(target=self._follow, name="mlflow-mirror", daemon=True)
        self.thread.start()

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        """Send the rest within a bounded time, or say how it is sent later."""
        self._over.set()
        patience = Patience(SENT_WITHIN_S)
        try:
            patience.wait_for(self.thread)
            patience.call(partial(self._send, last=True))
            self._has_all = True
        except TrackingUnavailable as error:
            self._progress.warn(self._advised(error))

    def log_report(self, files: Mapping[str, str]) -> None:
        """Send the report within a bounded time, unless MLflow lacks more than that already."""
        if self.mirror is None or not self._has_all:
            return
        try:
            Patience(REPORT_WITHIN_S).call(partial(self.mirror.log_report, files))
        except TrackingUnavailable as error:
            self._progress.warn(f"MLflow lacks the report. {self._advised(error)}")

    def _follow(self) -> None:
        while not self._over.is_set():
            try:
                self._send()
            except NormsweepError as error:
                if not self._said_away and not self._over.is_set():  # whose end says it better
                    again = f"This run goes on, and tries again every {MIRROR_EVERY_S:g} s."
                    self._progress.warn(f"{self._advised(error)} {again}")
                self._said_away = True
            self._over.wait(MIRROR_EVERY_S)

    def _send(self, *, last: bool = False) -> None:
        """Send what is new: of all trials at first and at last, in between of those that moved."""
        self._moved |= self._progress.moved()
        if self.mirror is None:
            self.mirror = Mirror(self._options.tracking, self._plan)
        self.mirror.sync(
            self._store,
            self._those(last=last),
            reused=self._reused,
            heard=self._moved,
            looks=None if self.has_begun else self._looks,
        )
        self.has_begun, self._moved = True, frozenset()
        while self.mirror.notes:
            self._progress.warn(self.mirror.notes.pop(0))
        if self._said_away and not self._said_back:
            self._progress.say("MLflow has what it lacked.")
            self._said_back = True

    def _those(self, *, last: bool) -> list[Trial]:
        if not self.has_begun:
            return list(self._plan.trials)
        if last:
            return [trial for trial in self._plan.trials if trial.id not in self._reused]
        return [trial for trial in self._plan.trials if trial.id in self._moved]

    def _advised(self, error: NormsweepError) -> str:
        """What the error says, with the command as it is to be entered here."""
        if self._options.job:  # whose pods know other addresses than people do
            return str(error)
        return str(error).replace(hint(SYNC), sync_command(self._plan, self._options))


def sync_command(plan: Plan, options: RunOptions) -> str:
    """The command that sends MLflow what it lacks. An address with a password is left out."""
    words = ["normsweep", "sync", str(plan.path), "--store", options.store]
    if shown(options.tracking) == options.tracking:
        words += ["--tracking", options.tracking]
    return shlex.join([*words, *(word for root in options.data_roots for word in ("--data", root))])
