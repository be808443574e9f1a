"""Evaluates a sweep: every trial's final weights, with Ray, as far as the store lacks results.

Each evaluation is a task of Ray: a GPU where nodes have some, else a share of the cores. The task
writes its result to the store itself, so that whatever ends the command, what is done is kept. Only
the driver writes to MLflow.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import signals
from orchestrator.datasets.roots import DataRoots
from orchestrator.errors import EnvironmentProblem, NormsweepError, TrialsFailed
from orchestrator.evaluate import (
    EvaluateOptions,
    Job,
    Subject,
    cache_in,
    fitting,
    precisions_asked,
    result_of,
    trained_subject,
)
from orchestrator.plan import Plan
from orchestrator.plan.sets import as_taken
from orchestrator.run.evaluations import Asked, Evaluation, asked
from orchestrator.run.folders import work_folder
from orchestrator.run.options import RunOptions
from orchestrator.run.ray import gpus_of, ray_cluster, refuse_split_store
from orchestrator.run.runner import set_environment, where_runs_are
from orchestrator.run.telling import Telling
from orchestrator.store import open_store, read_store
from orchestrator.store.base import Store
from orchestrator.store.ending import Ended
from orchestrator.store.results import write_evaluation
from orchestrator.tracking import shown
from orchestrator.tracking.base import TrackingUnavailable
from orchestrator.tracking.mirror import Mirror
from trainers.data.cache import Cache, cache_root
from trainers.data.given import given_scale
from trainers.data.manifests import DatasetProblem
from trainers.spec import RunSpec

LOOK_EVERY_S = 0.5  # for a signal, while evaluations run


@dataclass(frozen=True)
class Task:
    """What a worker of Ray needs for one evaluation."""

    trial: str
    benchmark: str
    set_sha256: str
    precision: str
    options: EvaluateOptions
    has_gpu: bool


@dataclass(frozen=True)
class Outcome:
    """A result that is kept, or why there is none. `is_fatal`: so will all others fail."""

    result: Mapping[str, Any] | None
    problem: str = ""
    is_fatal: bool = False


class Share(NamedTuple):
    """How many evaluations run at a time (`slots`), and what each gets."""

    slots: int
    cpus: int
    gpus: int


def evaluate_sweep(plan: Plan, options: EvaluateOptions, run: RunOptions) -> Ended:
    """Evaluate what is missing, write the report, mirror all into MLflow.

    Raises UserError for flags and sets, EnvironmentProblem where the machine or a service fails.
    """
    shown(run.tracking)  # refuses an address that is not valid, before anything is made
    options = replace(options, precisions=precisions_asked(options), store=_absolute(run.store))
    store = open_store(options.store)
    wanted = asked(plan, store, DataRoots(run.data_roots).find, options)
    telling = Telling(len(wanted.todo), quiet=run.quiet, json_lines=run.json_lines)
    for warning in (*plan.warnings, *wanted.notes, *wanted.left_out()):
        telling.tell(warning, is_problem=True)
    for one, record in wanted.kept:
        telling.line(one, "kept", record)
    if wanted.kept:
        telling.tell(f"{_counted(len(wanted.kept))} in the store already.")
    failed = 0
    try:
        if wanted.todo:
            failed = _evaluate(wanted.todo, options, run, telling)
    finally:
        mirror = _mirror(plan, store, wanted, run, telling)
    return _finish(plan, store, wanted, run, telling, mirror, failed)


def _evaluate(
    todo: Sequence[Evaluation], options: EvaluateOptions, run: RunOptions, telling: Telling
) -> int:
    """Evaluate all of `todo`, or until a signal comes; returns how many failed."""
    set_environment()
    failed = 0
    with work_folder(run) as work, ray_cluster(run, work), signals.waited_for():
        nodes = _nodes(run)
        share = shared(nodes, len(todo), run.max_concurrent, gpus_of(nodes, run.auto_gpus).auto)
        telling.tell(_in_words(len(todo), share))
        telling.begin()
        for one, outcome in _outcomes(todo, options, share):
            if outcome.is_fatal:
                raise EnvironmentProblem(outcome.problem)
            failed += outcome.result is None
            telling.ended(one, outcome.result, outcome.problem)
    return failed


def _outcomes(
    todo: Sequence[Evaluation], options: EvaluateOptions, share: Share
) -> Iterator[tuple[Evaluation, Outcome]]:
    """The outcomes as they come, until a signal does. Ray has no more tasks than shall run."""
    import ray
    from ray.exceptions import RayError

    # Never repeated by Ray: what killed a worker (memory, mostly) would do so again.
    remote = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0)(evaluate_one)
    waiting = deque(todo)
    running: dict[Any, Evaluation] = {}  # by Ray's reference
    while (waiting or running) and signals.received is None:
        while waiting and len(running) < share.slots:
            one = waiting.popleft()
            names = one.trial.id, one.benchmark, one.set_sha256, one.precision
            running[remote.remote(Task(*names, options, bool(share.gpus)))] = one
        ended, _ = ray.wait(list(running), timeout=LOOK_EVERY_S)
        for reference in ended:
            one = running.pop(reference)
            try:
                yield one, ray.get(reference)
            except RayError as error:
                yield one, Outcome(None, _why(error))


def _why(error: Exception) -> str:
    """What went wrong, without Ray's frames around it."""
    cause = getattr(error, "cause", None) or error  # a RayTaskError has the task's own exception
    said = str(cause).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {said[0]}"


def shared(nodes: Sequence[Mapping[str, float]], number: int, most: int | None, gpus: int) -> Share:
    """How to share nodes with these resources among `number` evaluations, `most` at a time.

    With `gpus`, each takes one; otherwise all cores are dealt out, as far as a node's go.
    """
    if gpus:
        there = int(sum(node.get("GPU", 0) for node in nodes))
        return Share(max(1, min(there, number, most or there)), 1, 1)
    having = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    there = sum(having)
    slots = max(1, min(there, number, most or there))
    return Share(slots, max(1, min(there // slots, *having)), 0)


def _nodes(run: RunOptions) -> list[Mapping[str, float]]:
    """The resources of the cluster's nodes, once one of them has a core to work on."""
    import ray

    refuse_split_store(run, ray.nodes())
    until = time.monotonic() + (run.join_deadline_s if run.address else 0.0)
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= 1 for node in nodes):
            return nodes
        if time.monotonic() >= until or signals.received is not None:
            raise EnvironmentProblem("No node of the Ray cluster has a CPU core for an evaluation.")
        time.sleep(LOOK_EVERY_S)


def evaluate_one(task: Task) -> Outcome:
    """One evaluation, in a worker of Ray, kept in the store."""
    if not task.has_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported
    options = task.options
    try:
        subject = _subject(options.store, task.trial)
    except NormsweepError as error:  # about this trial alone
        return Outcome(None, str(error))
    try:
        cache = Cache(cache_root(cache_in(options.store)))
        folders = _fetched(task, subject.spec, cache)
        weights, precision = subject.weights, task.precision
        job = Job(subject.spec, weights, task.benchmark, folders, precision, options)
        result = result_of(job, subject, task.set_sha256)
        write_evaluation(open_store(options.store), task.trial, job.name, result)
    except NormsweepError as error:
        return Outcome(None, str(error), is_fatal=isinstance(error, EnvironmentProblem))
    return Outcome(result)


def _fetched(task: Task, spec: RunSpec, cache: Cache) -> list[Path]:
    """Roots with the set, whose content is the one that was planned. Raises DatasetProblem."""
    roots = DataRoots(task.options.data_roots)
    found = as_taken(roots.find(task.benchmark), spec.task)
    if found.sha256 != task.set_sha256:
        raise DatasetProblem(f"{found.folder} has other images than where the driver looked")
    return roots.fetch([task.benchmark], cache, given_scale(spec.task))


@lru_cache(maxsize=1)  # a trial's evaluations follow each other
def _subject(store_uri: str, trial: str) -> Subject:
    return fitting(trained_subject(read_store(store_uri), trial))


def _mirror(
    plan: Plan, store: Store, wanted: Asked, run: RunOptions, telling: Telling
) -> Mirror | None:
    """Send the evaluations of trials that have ended to MLflow; None if it does not answer."""
    without = {trial.id for trial in wanted.without_weights}
    trials = [trial for trial in plan.trials if trial.id not in without]
    try:
        mirror = Mirror(run.tracking, plan)
        mirror.sync(store, trials, looks=wanted.looks)
        mirror.send_evaluations(store, trials)
    except TrackingUnavailable as error:
        telling.tell(str(error), is_problem=True)
        return None
    for note in mirror.notes:
        telling.tell(note, is_problem=True)
    return mirror


def _finish(
    plan: Plan,
    store: Store,
    wanted: Asked,
    run: RunOptions,
    telling: Telling,
    mirror: Mirror | None,
    failed: int,
) -> Ended:
    """Write the report and the summary; nothing after a signal."""
    signals.check()
    from orchestrator.report.frame import read_frame
    from orchestrator.report.page import write_report

    links = {} if mirror is None else mirror.links
    written = write_report(plan, run.store, frame=read_frame(plan, store), links=links)
    if mirror is not None:
        with suppress(TrackingUnavailable):
            mirror.log_report(written.files)
    counts = {
        "sweep": plan.sweep,
        "evaluated": len(wanted.todo) - failed,
        "kept": len(wanted.kept),
        "failed": failed,
        "without_weights": len(wanted.without_weights),
        "report": written.page,
    }
    words = f"{counts['evaluated']} evaluated, {counts['kept']} kept from before"
    words += f", {failed} failed" * bool(failed)
    if wanted.without_weights:
        words += f"; {len(wanted.without_weights)} of {len(plan.trials)} trials are left out"
    text = f"{plan.sweep}: {words}.\nReport: {written.page}\nRuns:   {where_runs_are(run, mirror)}"
    is_whole = not failed and not wanted.without_weights
    return Ended(0 if is_whole else TrialsFailed.exit_code, tuple(telling.warnings), text, counts)


def _absolute(store: str) -> str:
    """The store's address, whatever the working directory, which Ray changes."""
    return store if "://" in store else str(Path(store).absolute())


def _counted(number: int) -> str:
    return f"{number:,} evaluation{'s are' if number != 1 else ' is'}"


def _in_words(number: int, share: Share) -> str:
    each = "a GPU" if share.gpus else f"{share.cpus} core{'s' * (share.cpus > 1)}"
    return f"{number:,} to evaluate, {share.slots} at a time, each on {each}."
