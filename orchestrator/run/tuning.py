"""Runs a sweep's trials under Ray Tune: in placement groups, largest first, with retries."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import OutOfMemoryError, RayError
from ray.tune.execution import class_cache
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.experiment import Trial as TuneTrial

from orchestrator import signals
from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan, Trial
from orchestrator.plan.order import order_on
from orchestrator.plan.states import State
from orchestrator.run.budget import Budget, gpus_of
from orchestrator.run.driver import the_command
from orchestrator.run.jobs import Jobs
from orchestrator.run.options import RunOptions
from orchestrator.run.progress import Progress
from orchestrator.run.ray import MEMORY_MONITOR, refuse_split_store
from orchestrator.run.retaining import free_beside
from orchestrator.run.stopping import stopping_of, watch_of
from orchestrator.run.trainable import STARTING_WORKERS, STOPPED, GangTrainable
from orchestrator.run.turns import Turns
from orchestrator.store import open_store
from orchestrator.store.processes import this_process
from trainers.spec import PlacementSpec

BUDGET_USED_UP = "the budget of its run was used up"
# More than a trainable waits for its gang, less than the parent waits for the driver.
SAVE_WITHIN_S = 90.0
# The trainables of one trial that may die. This only bounds what orchestrator.run.outcome decides:
# whether a failed attempt is repeated.
MOST_DEATHS = 100
STRATEGIES = {"pack": "PACK", "spread": "SPREAD", "strict_pack": "STRICT_PACK"}
# Tune (2.60) would pass S3 keys on in its actors' runtime environment, where command lines show
# them. Every node has its own.
class_cache.ENV_VARS_TO_PROPAGATE -= {
    name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")
}


class Follower(tune.Callback):  # type: ignore[misc]
    """Passes what Tune sees of the trials to the progress display."""

    def __init__(
        self,
        progress: Progress,
        budget: Budget,
        gpus: Mapping[str, float] | None = None,
        ended: Callable[[str], None] = lambda trial_id: None,
    ) -> None:
        """`gpus`: how many the gang of each trial holds. `ended` is called when one has ended."""
        self._ended = ended
        self._progress = progress
        self._budget = budget
        self._gpus = gpus or {}
        self._noted: set[str] = set()
        self._open: list[TuneTrial] = []  # those that have not finished
        self._seen = 0  # trials that Tune has made so far
        self._is_over = False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into a snapshot, which we never restore.

        Running the sweep again is how it resumes.
        """
        return {}

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """After a signal, or with its budget used up, save every running trial, then end Tune.

        Tune itself (2.60) gives trials some 15 s to end, too little for a large checkpoint or a
        distant store.
        """
        # This is called for every event, and Tune only ever adds to its list of all trials.
        self._open = [one for one in (*self._open, *trials[self._seen :]) if not one.is_finished()]
        self._seen = len(trials)
        running = [trial for trial in self._open if trial.status == TuneTrial.RUNNING]
        self._budget.spend(sum(self._gpus.get(trial.config["trial"], 0.0) for trial in running))
        used_up = self._budget.used_up
        if (signals.received is None and not used_up) or self._is_over:
            return
        self._is_over = True
        if signals.received is None:
            self._progress.say(f"The budget of {used_up} is used up: saving checkpoints.")
        actors = [trial.temporary_state.ray_actor for trial in running]
        why = BUDGET_USED_UP if signals.received is None else STOPPED
        ends = [actor.save_and_end.remote(why) for actor in actors if actor is not None]
        ray.wait(ends, num_returns=len(ends), timeout=SAVE_WITHIN_S) if ends else None
        signal.raise_signal(signal.SIGUSR1)  # on which Tune ends

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        phase = {"phase": STARTING_WORKERS}
        self._progress.changed(trial.config["trial"], State.RUNNING, phase)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        if result.get("elsewhere"):  # orchestrator.run.turns shows it
            return
        for note in result.get("notes", ()):
            if note not in self._noted:
                self._noted.add(note)
                self._progress.warn(note)
        self._progress.changed(trial.config["trial"], State(result["state"]), result)

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended(trial.config["trial"])

    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._progress.changed(trial.config["trial"], State.RETRYING)

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._progress.changed(trial.config["trial"], State.FAILED)


def bundles(placement: PlacementSpec) -> PlacementGroupFactory:
    """One bundle per worker. The trainable itself needs no resources, since it mostly waits."""
    worker: dict[str, float] = {"CPU": placement.cpus_per_worker}
    if placement.gpus:
        worker["GPU"] = placement.gpus
    return PlacementGroupFactory(
        [{}] + [worker] * placement.workers, strategy=STRATEGIES[placement.strategy]
    )


def resources_of(trials: Iterable[Trial]) -> Callable[[Mapping[str, Any]], PlacementGroupFactory]:
    """The bundles of a trial, given its config.

    Tune pickles this with the trainable's class, for every actor: it does not hold the trials.
    """
    placements = {trial.id: trial.spec.placement for trial in trials}
    return lambda config: bundles(placements[config["trial"]])


def jobs_of(
    plan: Plan, trials: Mapping[str, Trial], options: RunOptions, work: Path, commit: str
) -> Jobs:
    """What the trainables of a run are told; `work` is where its ranks write."""
    return Jobs(
        sweep=plan.sweep,
        trials=trials,
        store_uri=options.store if "://" in options.store else str(Path(options.store).absolute()),
        work=None if "://" in options.store else str(work / "ranks"),
        cache=None if "://" in options.store else str(Path(options.store).absolute() / "cache"),
        data_roots=options.data_roots,
        commit=commit,
        started=time.time(),
        run=options.run,
        watch=watch_of(plan),
        process=this_process(),
    )


def tune_trials(
    plan: Plan,
    todo: list[Trial],
    options: RunOptions,
    progress: Progress,
    *,
    work: Path,
    commit: str,
    begun: Mapping[str, int],
    budget: Budget,
) -> dict[str, str]:
    """Train all of `todo`, or until a signal comes or the budget is used up.

    What other runs train meanwhile is theirs. `begun`: by trial, the newest attempt before this
    run; 0 if there was none. Returns, by trial id, why those failed that used up their retries.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    refuse_split_store(options, ray.nodes())
    store = open_store(options.store)
    stopping, todo = stopping_of(plan, todo, store)
    if not todo:
        return {}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    trials = {trial.id: trial for trial in order_on(todo, nodes)}
    jobs = jobs_of(plan, trials, options, work, commit)
    turns = Turns(store, plan, list(trials), progress, begun, jobs.process, jobs.run)
    gpus = {one.id: gpus_of(one) for one in todo}
    follower = Follower(progress, budget, gpus, partial(free_beside, plan, store))
    trainable = tune.with_resources(
        tune.with_parameters(GangTrainable, jobs=jobs), resources_of(todo)
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=turns,
            num_samples=-1,  # turns says when there are no more
            max_concurrent_trials=options.max_concurrent,
            scheduler=stopping,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=plan.sweep,
            storage_path=str(work / "tune"),
            verbose=0,
            # Checkpoints are in the store.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=MOST_DEATHS),
            callbacks=[follower],
        ),
    )
    with signals.waited_for(), turns:
        try:
            results = tuner.fit()
        except RuntimeError as error:  # of Tune, about an error of Ray that it does not expect
            raise lost(error) from error
    # Trials that failed say so in the store; interrupted ones have not used up their retries.
    return {} if signals.received is not None or budget.used_up else causes(results)


def lost(error: RuntimeError) -> Exception:
    """What an error that ended Tune means for people; the error itself if Ray did not cause it."""
    cause = error.__cause__
    if not isinstance(cause, RayError):
        return error
    said = str(cause).strip().splitlines()[0]
    hint = (
        f" Start Ray with {MEMORY_MONITOR}=0, so that the kernel ends the rank instead: its trial "
        "is then tried again."
        if isinstance(cause, OutOfMemoryError)
        else ""
    )
    return EnvironmentProblem(
        f"Ray cannot go on: {said}{hint} What is done is kept. To continue: {the_command()}"
    )


def causes(results: tune.ResultGrid) -> dict[str, str]:
    """Why trials failed that Tune has given up, by trial id."""
    return {
        result.config["trial"]: cause_of(result.error)
        for result in results
        if result.error is not None
    }


def cause_of(error: Exception) -> str:
    """Say what went wrong, without Ray's frames around it."""
    cause = error.__cause__ or error
    return str(cause).strip().splitlines()[-1] if str(cause).strip() else type(cause).__name__
