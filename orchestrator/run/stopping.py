"""Early stopping by Tune's own schedulers: one of them for each group of comparable trials.

What Tune decides is kept in the store before anyone acts on it. Then the trial is asked to end by
itself, with a checkpoint: if Tune stopped it, there would be some 15 s for that.

ASHA is asynchronous: what it decides depends on the order in which trials reach a rung. So that
order is kept, and a run that continues gives Tune the same values in the same order. Values that
were journalled and never judged, because a kill came first, follow in the order of their times.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan, Trial
from orchestrator.plan.states import State
from orchestrator.plan.stop import Stop
from orchestrator.plan.stopping import rungs
from orchestrator.run.early import WATCHED, Watch
from orchestrator.store.base import Store
from orchestrator.store.journals import READERS
from orchestrator.store.listing import listed
from orchestrator.store.stops import Decision, keep, kept, stops_prefix
from orchestrator.store.trials import glance_at, read_trial

# A value that is not a number counts as the worst. It is finite, since Tune's percentiles of
# infinite values are no numbers, below which nothing is.
WORST = 1e300
STEP = "step"
Ask = Callable[[TuneTrial, Decision], None]


@dataclass(frozen=True)
class Standing:
    """A trial as Tune's schedulers see it, whether Tune runs it or it ended long ago."""

    trial_id: str


@dataclass(frozen=True)
class Judged:
    rung: float
    cutoff: float | None  # in the metric's own terms; None where there was nothing to compare with
    stops: bool


class Group:
    """The scheduler of Tune (2.60) for one group, in which trials have at most `steps` steps."""

    def __init__(self, stop: Stop, steps: int) -> None:
        self._stop = stop
        self._sign = 1.0 if stop.mode == "max" else -1.0
        common = {"time_attr": STEP, "metric": WATCHED, "mode": stop.mode}
        if stop.scheduler == "asha":
            self._tune: Any = AsyncHyperBandScheduler(
                **common,
                max_t=max(steps - 1, stop.grace_steps),  # nothing is left to save at the last step
                grace_period=stop.grace_steps,
                reduction_factor=stop.reduction,
                brackets=stop.brackets,
                # Otherwise a rung that was passed over would be judged by a later value.
                stop_last_trials=False,
            )
        else:
            self._tune = MedianStoppingRule(
                **common,
                grace_period=stop.grace_steps,
                min_samples_required=stop.min_samples,
                min_time_slice=math.inf,  # else trials are paused until there are enough samples
            )

    def add(self, trial_id: str) -> None:
        """Add a trial. Its bracket, which Tune draws, depends on its id alone."""
        before = np.random.get_state()
        np.random.seed(zlib.crc32(trial_id.encode()))
        self._tune.on_trial_add(None, Standing(trial_id))
        np.random.set_state(before)

    def judge(self, trial_id: str, step: int, value: float) -> Judged | None:
        """What Tune decides about a trial, given its next value; None if this is no rung of it."""
        rung, cutoff = self._asha(trial_id, step) if self._is_asha else self._median(trial_id, step)
        is_sound = math.isfinite(value)
        taken = value if is_sound else -self._sign * WORST
        action = self._tune.on_trial_result(None, Standing(trial_id), {STEP: step, WATCHED: taken})
        if rung is None:
            return None
        if cutoff is not None and abs(cutoff) > WORST / 1e6:
            cutoff = None  # between a value that is not a number and another
        return Judged(rung, cutoff, action == TrialScheduler.STOP or not is_sound)

    def recall(self, trial_id: str, step: int, value: float) -> None:
        """Give the median rule a value that was judged before, or is too old to be."""
        taken = value if math.isfinite(value) else -self._sign * WORST
        self._tune.on_trial_complete(None, Standing(trial_id), {STEP: step, WATCHED: taken})

    @property
    def _is_asha(self) -> bool:
        return self._stop.scheduler == "asha"

    def _asha(self, trial_id: str, step: int) -> tuple[float | None, float | None]:
        """The rung that this step reaches first, if any, and what passes it so far."""
        bracket = self._tune._trial_info[trial_id]
        for milestone, recorded in bracket._rungs:  # the highest first
            if step >= milestone:
                if trial_id in recorded:
                    break
                cutoff = bracket.cutoff(recorded)
                return milestone, None if cutoff is None else self._sign * float(cutoff)
        return None, None

    def _median(self, trial_id: str, step: int) -> tuple[float | None, float | None]:
        """The step itself, from the grace on, and the median of the others' averages."""
        if step < self._stop.grace_steps:
            return None, None
        others = set(self._tune._trials_beyond_time(step)) - {Standing(trial_id)}
        averages = (self._tune._running_mean(other, step) for other in others)
        means = [average for average in averages if math.isfinite(average)]
        enough = len(means) >= self._stop.min_samples
        return step, float(np.median(means)) if enough else None


class Stopping(FIFOScheduler):  # type: ignore[misc]
    """Passes each value of the metric to the scheduler of its group, and keeps what that decides.

    To Tune it never says more than CONTINUE: `ask` has the trial end by itself. A decision that the
    store does not take is tried again with the next result, and not acted on before.
    """

    def __init__(self, plan: Plan, store: Store, ask: Ask | None = None) -> None:
        super().__init__()
        assert plan.stop is not None
        self._store = store
        self._ask = ask or ask_to_end
        self._asked = plan.stop.asked
        self._of = plan.stop.groups
        self._prefix = stops_prefix(plan.sweep, plan.stop.policy)
        self._steps = {trial.id: trial.spec.training.steps for trial in plan.trials}
        self._groups: dict[str, Group] = {}
        for label in dict.fromkeys(self._of.values()):
            steps = max(self._steps[trial] for trial, of in self._of.items() if of == label)
            self._groups[label] = Group(self._asked, steps)
        for trial, label in self._of.items():
            self._groups[label].add(trial)
        self._seen: dict[str, int] = {}  # by trial, the last step that was judged
        self._over: set[str] = set()  # trials of which Tune must hear no more
        self._order = 0
        self._owed: list[Decision] = []
        self.stops: dict[str, Decision] = {}
        self._restore()

    def on_trial_result(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        owed, self._owed = self._owed, []
        for decision in owed:
            self._keep(decision)
        trial_id = trial.config["trial"]
        if WATCHED in result:
            self._arrive(trial_id, int(result[STEP]), float(result[WATCHED]))
        if trial_id in self.stops and not result.get("done"):
            self._ask(trial, self.stops[trial_id])
        return str(TrialScheduler.CONTINUE)

    def on_trial_error(self, controller: Any, trial: TuneTrial) -> None:
        """Judge what the attempt that failed has journalled, and did not report.

        The next one may begin at a later step.
        """
        with suppress(EnvironmentProblem):
            self._catch_up([trial.config["trial"]])

    def is_over(self, trial_id: str) -> bool:
        """Whether a trial has been stopped already, for this sweep as for the one that did it."""
        return trial_id in self.stops and glance_at(self._store, trial_id).state == State.STOPPED

    def _restore(self) -> None:
        """Give Tune what was judged before, in that order; then what was journalled since."""
        for made in kept(self._store, self._prefix):
            if self._of.get(made.trial) != made.group:
                continue  # the sweep file no longer has it
            if self._is_asha:
                self._groups[made.group].judge(made.trial, made.step, made.value)
                self._seen[made.trial] = made.step
            self._order = max(self._order, made.order + 1)
            if made.stops:
                self.stops[made.trial] = made
        self._catch_up([trial for trial in self._of if not self._is_done_with(trial)])

    @property
    def _is_asha(self) -> bool:
        return self._asked.scheduler == "asha"

    def _is_done_with(self, trial_id: str) -> bool:
        """Whether no value that a trial has journalled can matter any more."""
        if not self._is_asha:
            return False
        there = rungs(self._asked, self._steps[trial_id])
        return trial_id in self.stops or self._seen.get(trial_id, -1) >= there[-1]

    def _catch_up(self, trials: Iterable[str]) -> None:
        """Judge what these trials have journalled and nobody has judged.

        The median rule only takes note of it: it goes by all values, of which nobody knows the
        order in which they came, and the next one is soon enough.
        """
        read = partial(journalled, self._store, self._asked.metric)
        with ThreadPoolExecutor(READERS) as readers:
            found = [one for part in readers.map(read, trials) for one in part]
        for _, trial_id, step, value in sorted(found, key=lambda one: one[:3]):
            if self._is_asha:
                self._arrive(trial_id, step, value)
            elif self._is_new(trial_id, step):
                self._groups[self._of[trial_id]].recall(trial_id, step, value)

    def _is_new(self, trial_id: str, step: int) -> bool:
        """Whether a value counts: it was not seen, and its trial not stopped before it."""
        made = self.stops.get(trial_id)
        is_before = made is None or (not self._is_asha and step <= made.step)
        if step <= self._seen.get(trial_id, -1) or trial_id in self._over or not is_before:
            return False
        self._seen[trial_id] = step
        return step < self._steps[trial_id]

    def _arrive(self, trial_id: str, step: int, value: float) -> None:
        if trial_id in self.stops or not self._is_new(trial_id, step):
            return
        label = self._of[trial_id]
        judged = self._groups[label].judge(trial_id, step, value)
        if judged is None or not (judged.stops or self._is_asha):
            return
        if judged.stops:
            self._over.add(trial_id)
        order, self._order = self._order, self._order + 1
        self._keep(
            Decision(trial_id, label, order, judged.rung, step, value, judged.cutoff, judged.stops)
        )

    def _keep(self, made: Decision) -> None:
        try:
            stands = keep(self._store, self._prefix, made)
        except EnvironmentProblem:
            self._owed.append(made)
            return
        if stands.stops:
            self.stops[stands.trial] = stands


def stopping_of(plan: Plan, todo: list[Trial], store: Store) -> tuple[Stopping | None, list[Trial]]:
    """The scheduler of a sweep that stops trials, and those of `todo` that it has not stopped."""
    if plan.stop is None:
        return None, todo
    made = Stopping(plan, store)
    return made, [trial for trial in todo if not made.is_over(trial.id)]


def journalled(store: Store, metric: str, trial_id: str) -> list[tuple[float, str, int, float]]:
    """Time, trial, step and value of each point of a metric in the store's journals."""
    if not listed(store, trial_id).attempts:
        return []
    look, points = read_trial(store, trial_id)
    if look.state == State.DAMAGED or metric not in points.metrics:
        return []
    mine = points.metric == points.metrics.index(metric)
    line = points.line[mine]
    columns = (points.time[line], points.step[line], points.value[mine])
    times, steps, values = (column.tolist() for column in columns)
    return [(at, trial_id, step, v) for at, step, v in zip(times, steps, values, strict=True)]


def ask_to_end(trial: TuneTrial, decision: Decision) -> None:
    """Have a trial's actor end it. The actor takes the request before its next step."""
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        actor.stop_early.remote(decision)


def watch_of(plan: Plan) -> Watch | None:
    """What trainables need to know of a sweep's stopping."""
    if plan.stop is None:
        return None
    asked = plan.stop.asked
    about: Mapping[str, str] = {
        "sweep": plan.sweep,
        "policy": plan.stop.policy,
        "scheduler": asked.scheduler,
        "metric": asked.metric,
    }
    return Watch(asked.metric, stops_prefix(plan.sweep, plan.stop.policy), about)
