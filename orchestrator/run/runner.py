"""Runs a sweep: what the store does not hold yet, by Ray Tune, the same on a laptop and on a cluster."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import signals
from orchestrator.errors import NormsweepError, TrialsFailed
from orchestrator.initial import keep_initial
from orchestrator.plan import Plan
from orchestrator.plan.fit import too_large_for_a_gpu, waits_for_gpus
from orchestrator.plan.show import counts, duration, gpus_in_words
from orchestrator.run.cluster import place, ray_cluster, work_folder
from orchestrator.run.options import RunOptions
from orchestrator.run.progress import Progress
from orchestrator.store import open_store
from orchestrator.store.base import Store
from orchestrator.store.closing import close_attempts
from orchestrator.store.trials import ended, give_up, read_failure, trial_states
from orchestrator.tracking.mlflow import Mirror, TrackingUnavailable

MIRROR_EVERY_S = 2.0
UNLESS_ASKED = {
    "RAY_worker_niceness": "0",  # that of the command; with Ray's own 15, ranks starve beside any other process
    # A busy machine takes longer than Ray waits by itself.
    "RAY_NUM_REDIS_GET_RETRIES": "60",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_worker_register_timeout_seconds": "300",
}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, and what people were warned of."""

    exit_code: int
    warnings: tuple[str, ...]


def run_sweep(plan: Plan, options: RunOptions) -> Ended:
    """Train what is missing, mirror it, write the report.

    Raises EnvironmentProblem where the machine cannot hold a gang or a service fails, Interrupted where a signal ended it.
    """
    store = open_store(options.store)
    done = ended(store, plan.trials)
    todo = {trial.id for trial in plan.trials} - done
    states = trial_states(options.store, plan)
    with Progress(plan, states, quiet=options.quiet, json_lines=options.json_lines) as progress:
        for warning in plan.warnings:
            progress.warn(warning)
        if todo:
            keep_initial(plan, store)
        if done:
            progress.say(f"{len(done)} of {len(plan.trials)} trials are done already.")
        with _mirroring(plan, store, options, frozenset(done), progress) as mirror:
            try:
                if todo:
                    plan = _train(plan, todo, store, options, progress)
            finally:  # before MLflow is told for the last time
                if signals.received is not None:
                    close_attempts(store, todo, options.run, "interrupted", "stopped from outside")
    exit_code = _finish(plan, store, options, progress, mirror, trained=len(todo))
    signals.check()
    return Ended(exit_code, tuple(progress.warnings))


def _finish(
    plan: Plan,
    store: Store,
    options: RunOptions,
    progress: Progress,
    mirror: Mirror | None,
    *,
    trained: int,
) -> int:
    """Report, summary, exit code."""
    states = trial_states(options.store, plan)
    summary: dict[str, Any] = {**counts(plan, states), "trained": trained, "report": None}
    for trial in plan.trials:
        state = states[trial.id]
        failure = read_failure(store, trial.id) if state in ("failed", "infeasible") else None
        if failure is not None:
            kind = f"{failure['kind']}: " if state == "failed" else ""
            progress.warn(f"{state}: {trial.name}: {kind}{failure['message']}")
    if signals.received is None:
        from orchestrator.report.page import write_report

        written = write_report(plan, options.store)
        summary["report"] = written.page
        if mirror is not None:
            with suppress(TrackingUnavailable):
                mirror.log_report(written.files)
        progress.say(
            f"{plan.sweep}: {summary['done']} done, {summary['diverged']} diverged, {summary['failed']} failed, "
            f"{_infeasible(summary)}{summary['pending']} pending.\n"
            f"Report: {written.page}\nRuns:   normsweep ui --tracking {options.tracking}"
        )
    progress.line({"event": "summary", **summary})
    return 0 if summary["done"] == summary["total"] else TrialsFailed.exit_code


def _infeasible(summary: Mapping[str, Any]) -> str:
    """A rare state: mentioned only where there is one."""
    return f"{summary['infeasible']} infeasible, " if summary["infeasible"] else ""


@contextmanager
def _mirroring(
    plan: Plan, store: Store, options: RunOptions, reused: frozenset[str], progress: Progress
) -> Iterator[Mirror | None]:
    """MLflow follows the store in a thread of its own, so that a slow server holds no trial up."""
    try:
        mirror = Mirror(options.tracking, plan)
        mirror.sync(store, plan.trials, reused=reused)
    except TrackingUnavailable as error:
        progress.warn(str(error))
        yield None
        return
    over = threading.Event()
    told = False

    def follow() -> None:
        nonlocal told
        while not over.wait(MIRROR_EVERY_S):
            try:
                mirror.sync(store, [trial for trial in plan.trials if trial.id not in reused], reused=reused)
            except NormsweepError as error:
                if not told:
                    progress.warn(str(error))
                told = True

    thread = threading.Thread(target=follow, name="mlflow-mirror", daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        over.set()
        thread.join()
        try:
            mirror.sync(store, plan.trials, reused=reused)
        except TrackingUnavailable as error:
            progress.warn(str(error))


def _train(plan: Plan, todo: AbstractSet[str], store: Store, options: RunOptions, progress: Progress) -> Plan:
    """Drive Ray Tune over the trials that are left, until a signal comes; returns the plan as it was placed."""
    for name, value in UNLESS_ASKED.items():
        os.environ.setdefault(name, value)
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_CHDIR_TO_TRIAL_DIR="0",
        RAY_DEDUP_LOGS="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_MAX_PENDING_TRIALS_PG="8",
        RAY_AIR_NEW_OUTPUT="0",
    )
    with work_folder(options) as work, ray_cluster(options, work):
        there, gpus = place(plan, todo, options)
        from orchestrator.run.tuning import tune_trials

        progress.placed(there)
        trials = [trial for trial in there.trials if trial.id in todo]
        if waits_for_gpus(plan):
            progress.say(f"Placement: {gpus_in_words(gpus)}")
            progress.line({"event": "placement", "auto_gpus": gpus.auto, "why": gpus.why})
        for warning in too_large_for_a_gpu(trials, gpus):
            progress.warn(warning)
        estimate = sum(trial.seconds for trial in trials)
        progress.say(f"{len(trials)} trials to train, about {duration(estimate)} one after the other.")
        errors = tune_trials(there, trials, options, progress, work=work, commit=_commit())
    for trial_id, error in errors.items():
        give_up(store, trial_id, error)
    return there


def _commit() -> str:
    """The commit of the checkout that runs, or of the image; empty in an installed wheel."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return os.environ.get("NORMSWEEP_COMMIT", "")
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
