"""Whose turn it is: gives Tune a run's trials one by one, and leaves to others what they train.

Free trials come first, in their order. A trial whose lease another run holds is set aside, shown,
and looked at now and then: with a result it is over; if its holder fails, ends or dies, it is free
again. Tune asks for a trial whenever it has room, so that trials that come free later need no
second experiment.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from ray.tune.search import Searcher

from orchestrator import signals
from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan
from orchestrator.plan.states import State
from orchestrator.run.progress import Progress
from orchestrator.store.base import Store
from orchestrator.store.leases import Seen, Watch, end, see
from orchestrator.store.processes import Process
from orchestrator.store.stops import has_ended_for

LOOK_EVERY_S = 3.0  # at trials that others train


class Turn(Enum):
    """What a look at a trial says about it."""

    FREE = "free"
    HELD = "held"  # by another run
    OVER = "over"  # no run trains it further, or another has just given it up


class Turns(Searcher):  # type: ignore[misc]
    """Tune's source of trials. As a context manager, it ends its thread."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        trials: Sequence[str],
        progress: Progress,
        begun: Mapping[str, int],
        process: Process,
        run: str,
        watch: Watch | None = None,
    ) -> None:
        """`trials`: ids, in their order. `begun`: the newest attempt at each before this run."""
        super().__init__()
        self._store = store
        self._plan = plan
        self._progress = progress
        self._begun = begun
        self._process = process
        self._run = run
        self._watch = watch or Watch()
        self._free = deque(trials)
        self._held: set[str] = set()
        self._others: dict[str, int] = {}  # by trial, the last attempt seen held by another run
        self._told: set[str] = set()  # those held that the thread has found free, or over
        self._given: dict[str, str] = {}  # by Tune's id, the trials that it has now
        self._news: queue.SimpleQueue[tuple[str, Turn]] = queue.SimpleQueue()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles it into a snapshot, which we never restore."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's config, None if there is none now, FINISHED if there will be none."""
        if signals.received is not None:
            return str(self.FINISHED)
        while not self._news.empty():
            name, turn = self._news.get()
            self._held.discard(name)
            if turn == Turn.FREE:
                self._free.append(name)
        while self._free:
            name = self._free.popleft()
            turn = self._look(name)
            if turn == Turn.FREE:
                self._given[trial_id] = name
                return {"trial": name}
            if turn == Turn.HELD:
                self._set_aside(name)
        return None if self._given or self._held else str(self.FINISHED)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        name = self._given.pop(trial_id, None)
        if name is not None and result is not None and result.get("elsewhere"):
            self._set_aside(name)

    def _set_aside(self, trial: str) -> None:
        self._told.discard(trial)
        self._held.add(trial)
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="turns", daemon=True)
            self._thread.start()

    def _follow(self) -> None:
        while not self._over.is_set():
            for name in self._held - self._told:
                turn = self._look(name)
                if turn != Turn.HELD:
                    self._told.add(name)
                    self._news.put((name, turn))
            self._over.wait(LOOK_EVERY_S)

    def _look(self, trial: str) -> Turn:
        """Look at a trial, show what others do with it, and end its lease if its holder is dead.

        If the store does not answer it stays what it was: free ones find out when they begin.
        """
        try:
            seen = see(self._store, trial)
            if seen.holder is None:
                return self._without_holder(trial, seen)
            is_own = seen.holder.process == self._process and seen.holder.run == self._run
            why = "" if is_own else self._watch.why_over(trial, seen)
            if is_own or (why and end(self._store, trial, seen, self._run, why)):
                if why:
                    self._progress.freed(trial, why)
                return Turn.FREE
        except EnvironmentProblem:
            return Turn.HELD if trial in self._held else Turn.FREE
        self._others[trial] = seen.attempt
        self._progress.elsewhere(trial, seen.look.step, seen.holder.host, seen.holder.run)
        return Turn.HELD

    def _without_holder(self, trial: str, seen: Seen) -> Turn:
        is_of_others = seen.attempt > self._begun[trial] or seen.attempt == self._others.get(trial)
        is_given_up = is_of_others and seen.state in (State.FAILED, State.INFEASIBLE)
        if is_given_up or has_ended_for(self._plan, seen.look):
            result = seen.look.result
            step = seen.look.step if result is None else int(result["step"])
            self._progress.changed(trial, seen.state, {"step": step})
            return Turn.OVER
        return Turn.FREE
