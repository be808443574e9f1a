"""Runs a sweep: trains with Ray Tune what the store lacks, on a laptop as on a cluster."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from orchestrator import signals
from orchestrator.initial import keep_initial
from orchestrator.plan import Plan
from orchestrator.plan.show import trials_in_words
from orchestrator.plan.states import State
from orchestrator.run.budget import Budget
from orchestrator.run.driver import the_command
from orchestrator.run.folders import work_folder
from orchestrator.run.mirroring import Follower
from orchestrator.run.options import RunOptions
from orchestrator.run.progress import Progress
from orchestrator.run.ray import place, ray_cluster, refuse_without_cuda
from orchestrator.run.retaining import free_all
from orchestrator.store import open_store
from orchestrator.store.attempts import give_up
from orchestrator.store.base import Store
from orchestrator.store.closing import close_attempts
from orchestrator.store.ending import Ended, This, ended
from orchestrator.store.names import claim_name
from orchestrator.store.stops import has_ended_for
from orchestrator.store.trials import Look, damage_in_words, looks_at
from orchestrator.store.troubles import end_in_words
from orchestrator.tracking import is_mlflow, shown
from orchestrator.tracking.mirror import Mirror
from orchestrator.version import commit

UNLESS_ASKED = {
    # As nice as the command is. With Ray's own 15, ranks starve beside any other process.
    "RAY_worker_niceness": "0",
    # No worker is started before its environment is known: Ray ends those that were, unused.
    "RAY_prestart_worker_first_driver": "0",
    # A busy machine takes longer than Ray waits by default.
    "RAY_NUM_REDIS_GET_RETRIES": "60",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_worker_register_timeout_seconds": "300",
}
FIXED = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS": "0",
    # Workers set CUDA_VISIBLE_DEVICES for their ranks; Ray's own way is changing (ray#54868).
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The journals have it all, and without Tune's loggers nearly twice as many results pass.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "8",
    # Tune's snapshots of all trials take a twentieth of its time, and are never restored.
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_sweep(plan: Plan, options: RunOptions, among: AbstractSet[str] | None = None) -> Ended:
    """Train what is missing, mirror it, write the report. After a signal there is no report.

    `among`: the ids of the only trials to train; all, if None.

    It calls downward and climbs back three times: to open the live table, to train, and to close
    the table. A test counts (tests/integration/test_way.py), so mind where a new call stands.

    Raises EnvironmentProblem where the machine cannot hold a gang or a service fails, UserError for
    an address of MLflow that is not valid.
    """
    budget = Budget.of(options)
    budget.refuse_without_gpus(plan, {trial.id for trial in plan.trials})
    shown(options.tracking)  # refuses an address that is not valid, before anything is made
    store = open_store(options.store)
    claim_name(plan, store)
    looks = looks_at(store, [trial.id for trial in plan.trials], verify=True)
    done = {trial_id for trial_id, look in looks.items() if has_ended_for(plan, look)}
    todo = looks.keys() - done if among is None else (looks.keys() - done) & among
    states = {trial_id: look.state for trial_id, look in looks.items()}
    refused = {trial_id for trial_id in todo if looks[trial_id].hindrances}
    todo -= refused
    begun = {trial_id: max(looks[trial_id].attempts, default=0) for trial_id in todo}
    reached = {trial_id: looks[trial_id].step for trial_id in todo}
    warnings = [
        *plan.warnings,
        *damage_in_words(looks.values()),
        *_refusals(plan, store, looks, refused),
    ]
    trials = trials_in_words(len(plan.trials))
    with Progress(
        plan, states, quiet=options.quiet, json_lines=options.json_lines, reached=reached
    ) as progress:
        for warning in warnings:
            progress.warn(warning)
        if done:
            progress.say(
                f"{len(done)} of {trials} {'is' if len(done) == 1 else 'are'} done already."
            )
        budget.refuse_without_gpus(plan, reached.keys())
        with Follower(plan, store, options, looks, frozenset(done), progress) as follower:
            try:
                if todo:
                    keep_initial(plan, store)
                    plan = _train(plan, reached, begun, store, options, progress, budget)
            finally:  # before MLflow hears from this run for the last time
                if signals.received is not None:
                    close_attempts(store, todo, options.run, "interrupted", "stopped from outside")
                elif budget.used_up:
                    why = f"the budget of {budget.used_up} was used up"
                    close_attempts(store, todo, options.run, "interrupted", why)
    return _finish(plan, store, options, progress, follower, budget, todo)


def _finish(
    plan: Plan,
    store: Store,
    options: RunOptions,
    progress: Progress,
    follower: Follower,
    budget: Budget,
    todo: AbstractSet[str],
) -> Ended:
    """Write the report and the summary, from one look at the store. `todo`: what was to train."""
    again = the_command()
    frame = None
    if signals.received is None:
        free_all(plan, store, progress)
        from orchestrator.report.frame import read_frame

        frame = read_frame(plan, store)
    looks = (
        frame.looks if frame is not None else looks_at(store, [trial.id for trial in plan.trials])
    )
    states = {trial_id: look.state for trial_id, look in looks.items()}
    for trial in plan.trials:
        state, failure = states[trial.id], looks[trial.id].failure
        if failure is not None and state in (State.FAILED, State.INFEASIBLE):
            progress.warn(end_in_words(trial.name, state, failure, store.uri))
    page = None
    if frame is not None:
        from orchestrator.report.page import write_report

        links = {} if follower.mirror is None else follower.mirror.links
        written = write_report(plan, options.store, frame=frame, links=links)
        page = written.page
        follower.log_report(written.files)
    this = This(
        options.run,
        page,
        where_runs_are(options, follower.mirror),
        again,
        tuple(progress.warnings),
        budget.used_up,
        budget.gpu_hours,
    )
    return ended(plan, store, looks, todo, this)


def where_runs_are(options: RunOptions, mirror: Mirror | None = None) -> str:
    """The page of the sweep's runs, or what shows it."""
    address = shown(options.tracking)
    if options.job:
        return f"{address}, as pods name it (k8s/README.md, Look)"
    if mirror is not None and mirror.link is not None:
        return mirror.link
    return (
        f"normsweep ui --tracking {shlex.quote(address)}"
        if is_mlflow(options.tracking)
        else address
    )


def _refusals(
    plan: Plan, store: Store, looks: Mapping[str, Look], refused: AbstractSet[str]
) -> list[str]:
    """Say which trials are not trained, because they have lost what cannot be made again.

    Trained further, such a trial would end with points missing. Trained anew, it would push out the
    checkpoints that it has.
    """
    return [
        f"damaged: {trial.name} is not trained, since its "
        f"{looks[trial.id].hindrances[0].key.split('/', 2)[2]} is lost. Put it back from a copy; "
        f"or, to train the trial anew, move {store.uri}/trials/{trial.id} away."
        for trial in plan.trials
        if trial.id in refused
    ]


def _train(
    plan: Plan,
    reached: Mapping[str, int],
    begun: Mapping[str, int],
    store: Store,
    options: RunOptions,
    progress: Progress,
    budget: Budget,
) -> Plan:
    """Train the trials that are left, each from the step that it has `reached`.

    `begun`: the newest attempt at each before this run. Ends early if a signal comes or the budget
    is used up. Returns the plan as it was placed.
    """
    code = commit()
    set_environment()
    refuse_without_cuda(plan, reached.keys(), options)
    progress.phase("starting Ray" if options.address is None else f"joining {options.address}")
    with work_folder(options) as work, ray_cluster(options, work):
        progress.phase("looking for room for every gang")
        there, gpus = place(plan, reached.keys(), options)
        budget.refuse_without_gpus(there, reached.keys())
        from orchestrator.run.tuning import tune_trials

        progress.placed(there, gpus)
        progress.phase("starting the first trials")
        trials = [trial for trial in there.trials if trial.id in reached]
        errors = tune_trials(
            there, trials, options, progress, work=work, commit=code, begun=begun, budget=budget
        )
    for trial_id, error in errors.items():
        give_up(store, trial_id, error, run=options.run)
    return there


def set_environment() -> None:
    """Set what Ray reads from the environment; before its import."""
    for name, value in UNLESS_ASKED.items():
        os.environ.setdefault(name, value)
    os.environ.update(FIXED)
