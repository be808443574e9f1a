"""`normsweep submit`, `list`, `status`, `logs` and `cancel`: a sweep as a RayJob, followed to its outcome in the store."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.cluster.kube import Exists, Kube, NotThere, Object
from orchestrator.cluster.rayjob import MANAGED, SWEEP_LABEL, TRIALS_NOTE, Job, JobOptions, build_job
from orchestrator.cluster.watch import FINISHED, JobState, job_state, log_lines
from orchestrator.errors import EnvironmentProblem, TrialsFailed, UserError
from orchestrator.objects import is_s3
from orchestrator.plan import Plan
from orchestrator.plan.show import counts, duration
from orchestrator.store import open_store
from orchestrator.store.jobs import clear_outcome, read_outcome
from orchestrator.store.trials import ended, states_of, trial_states

LOOK_EVERY_S = 3.0
GONE_DEADLINE_S = 90.0


@dataclass(frozen=True)
class SubmitOptions:
    """The flags of `normsweep submit`."""

    job: JobOptions
    dry_run: bool = False
    wait: bool = False


def submit(kube: Kube, plan: Plan, options: SubmitOptions) -> int:
    """Make the job of a plan, or attach to the one that is there. Returns the exit code; with `wait`, the sweep's own.

    Raises UserError, EnvironmentProblem.
    """
    _check_addresses(options.job)
    job = build_job(plan, options.job, Path.cwd())
    there = _unfinished(kube, plan.sweep, job.name)
    if there is not None:
        print(f"{job.name} is {there.phase} already.")
        _give_files(kube, job, kube.get("rayjobs", job.name))
        return _outcome(kube, job.name, options.job.store) if options.wait else 0
    store = open_store(options.job.store)
    done = ended(store, plan.trials)
    if len(done) == len(plan.trials):
        diverged = counts(plan, trial_states(options.job.store, plan))["diverged"]
        told = f", {diverged} of them by diverging" if diverged else ""
        print(f"Nothing to do: all {len(plan.trials)} trials of {plan.sweep} have ended in {options.job.store}{told}.")
        return TrialsFailed.exit_code if diverged and options.wait else 0
    _check_queue(kube, options.job.queue)
    _print_what(plan, job, options.job, len(plan.trials) - len(done))
    _try(kube, job)
    if options.dry_run:
        print("The cluster would take it. Nothing was made (--dry-run).")
        return 0
    _remove_finished(kube, plan.sweep)
    clear_outcome(store, job.name)
    try:
        made = kube.create("rayjobs", job.rayjob)
    except Exists:  # somebody submits the same sweep at the same time
        made = kube.get("rayjobs", job.name)
    _give_files(kube, job, made)
    print(f"{job.name} is made. Follow it: normsweep status {job.name}, normsweep logs -f {job.name}")
    return _outcome(kube, job.name, options.job.store) if options.wait else 0


def _check_addresses(options: JobOptions) -> None:
    """Refuse what pods could not reach. Raises UserError."""
    if not is_s3(options.store):
        raise UserError(
            f"--store {options.store}: pods on several nodes need a store that all reach: s3://BUCKET/PREFIX"
        )
    parts = urlsplit(options.tracking)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--tracking {options.tracking}: pods need a server: http://mlflow:5000 is the one of k8s/base")
    if parts.password:
        raise UserError(
            "--tracking: holds a password, which would stand in the job for everyone to read. Put MLFLOW_TRACKING_USERNAME and "
            f"MLFLOW_TRACKING_PASSWORD into the Secret {options.secret}, and leave them out of the address."
        )
    if _is_loopback(parts.hostname):
        raise UserError(f"--tracking {options.tracking}: for a pod that is the pod itself; name it as the cluster does")
    for root in options.data_roots:
        if not is_s3(root):
            raise UserError(
                f"--data {root}: pods do not see this machine's folders. Stage it: normsweep data stage NAME --to s3://..."
            )


def _check_queue(kube: Kube, queue: str | None) -> None:
    """Refuse a queue that is not there: its jobs would wait for ever. Raises UserError."""
    if queue is None:
        return
    known = [str(item["metadata"]["name"]) for item in kube.find("localqueues")]
    if queue not in known:
        raise UserError(
            f"--queue {queue}: there is no LocalQueue of this name in namespace {kube.namespace} "
            f"(there: {', '.join(known) or 'none'}). k8s/overlays/kueue/queues.yaml shows how one is made."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _unfinished(kube: Kube, sweep: str, name: str) -> JobState | None:
    """The unfinished job of this very name. Raises UserError where another one of the sweep is unfinished."""
    found = None
    for item in kube.find("rayjobs", f"{MANAGED},{SWEEP_LABEL}={sweep}"):
        if _is_finished(item):
            continue
        state = job_state(kube, item)
        if state.name == name:
            found = state
            continue
        raise UserError(
            f"Another version of the sweep {sweep} is {state.phase}: {state.name} (the file, the image or a norm differs). Either\n"
            f"  wait for it:    normsweep status {state.name}\n"
            f"  or end it:      normsweep cancel {state.name}    (what is done is kept, and used by the next one)\n"
            "  or give this one a name of its own: `sweep: ...` in the file"
        )
    return found


def _is_finished(rayjob: Object) -> bool:
    return (rayjob.get("status") or {}).get("jobDeploymentStatus") in FINISHED


def _try(kube: Kube, job: Job) -> None:
    """Let the API server admit and validate both objects, without making them."""
    for make in (
        lambda: kube.create("rayjobs", job.rayjob, dry_run=True),
        lambda: kube.create_config_map(job.config_map, dry_run=True),
    ):
        try:
            make()
        except Exists:  # a finished one, which is going to be replaced
            continue


def _remove_finished(kube: Kube, sweep: str) -> None:
    """Delete the sweep's finished jobs with what belongs to them, and wait until they are gone: the next one stands for them."""
    for item in kube.find("rayjobs", f"{MANAGED},{SWEEP_LABEL}={sweep}"):
        if _is_finished(item):
            with contextlib.suppress(NotThere):
                kube.delete("rayjobs", item["metadata"]["name"])
            _wait_gone(kube, item["metadata"]["name"])


def _wait_gone(kube: Kube, name: str) -> None:
    until = time.monotonic() + GONE_DEADLINE_S
    while time.monotonic() < until:
        try:
            kube.get("rayjobs", name)
        except NotThere:
            return
        time.sleep(0.5)
    raise EnvironmentProblem(
        f"{name} is being deleted for {GONE_DEADLINE_S:.0f} s: kubectl describe rayjob {name} says why"
    )


def _give_files(kube: Kube, job: Job, rayjob: Object) -> None:
    """The ConfigMap with the sweep, which goes when the job goes. Pods wait for it."""
    owner = {
        "apiVersion": rayjob["apiVersion"],
        "kind": rayjob["kind"],
        "name": rayjob["metadata"]["name"],
        "uid": rayjob["metadata"]["uid"],
        "blockOwnerDeletion": False,
    }
    metadata = {**job.config_map["metadata"], "ownerReferences": [owner]}
    try:
        kube.create_config_map({**job.config_map, "metadata": metadata})
    except Exists:
        return


def _print_what(plan: Plan, job: Job, options: JobOptions, missing: int) -> None:
    seconds = sum(trial.seconds for trial in plan.trials)
    print(
        f"Sweep {plan.sweep}: {len(plan.trials)} trials, {missing} to train, about {duration(seconds)} one after the other."
    )
    print(f"RayJob {job.name}, image {options.image}" + (f", queue {options.queue}" if options.queue else ""))
    for group in job.groups:
        gpus = f", {group.gpus * group.workers} GPU" if group.gpus else ""
        cpus = group.cpus * group.workers
        pods = f"{group.replicas}" if group.most == group.replicas else f"{group.replicas} to {group.most}"
        ranks = f"{group.workers} rank{'s' * (group.workers > 1)} each"
        print(f"  {pods} x {group.name}: {cpus} CPU{gpus}, {group.memory_gib} GiB, {ranks}")
    print(f"  store {options.store}; MLflow {options.tracking}; keys and address of S3 from Secret {options.secret}")
    here = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    if here.hostname and _is_loopback(here.hostname):
        print(
            f"  (S3 is {here.geturl()} for this machine: for a pod that is the pod itself, so the Secret must name another)"
        )


def _outcome(kube: Kube, name: str, store_uri: str) -> int:
    """Follow a job to its end; the sweep's own exit code."""
    told: tuple[str, tuple[str, ...]] | None = None
    while True:
        try:
            state = job_state(kube, kube.get("rayjobs", name))
        except NotThere:
            raise EnvironmentProblem(f"{name} was cancelled: what is done is kept in {store_uri}") from None
        if (state.phase, state.notes) != told:
            told = (state.phase, state.notes)
            print_state(state)
        if state.finished:
            return outcome_of(state, store_uri)
        time.sleep(LOOK_EVERY_S)


def outcome_of(state: JobState, store_uri: str) -> int:
    """The exit code of a finished job's sweep, as the store has it."""
    outcome = read_outcome(open_store(store_uri), state.name)
    if outcome is None:
        notes = "".join(f"\n  {note}" for note in state.notes)
        raise EnvironmentProblem(f"{state.name} ended without an outcome. Submit it again: it continues.{notes}")
    if outcome["message"]:
        print(outcome["message"], file=sys.stderr)
    return int(outcome["exit_code"])


def print_state(state: JobState) -> None:
    print(f"{state.name}: {state.phase}", flush=True)
    for note in state.notes:
        print(f"  {note}", flush=True)


# --- the other verbs


def list_jobs(kube: Kube) -> int:
    jobs = sorted(kube.find("rayjobs", MANAGED), key=lambda job: str(job["metadata"]["creationTimestamp"]))
    if not jobs:
        print(f"No sweep in namespace {kube.namespace}.")
    for job in jobs:
        print_state(job_state(kube, job))
    return 0


def show_job(kube: Kube, given: str) -> int:
    """The state of one job, and how far its trials are; once it has finished, the exit code of its sweep."""
    job = find_job(kube, given)
    state = job_state(kube, job)
    print_state(state)
    try:
        print(f"  {_trials_told(state.store, job['metadata']['annotations'][TRIALS_NOTE].split(','))}")
    except EnvironmentProblem as error:
        print(f"  how far its trials are cannot be seen from here: {error}")
    return outcome_of(state, state.store) if state.finished else 0


def _trials_told(store_uri: str, ids: Sequence[str]) -> str:
    """Raises EnvironmentProblem."""
    counted = Counter(states_of(open_store(store_uri), ids).values())
    return f"of {len(ids)} trials: " + ", ".join(f"{number} {word}" for word, number in sorted(counted.items()))


def show_log(kube: Kube, given: str, *, follow: bool) -> int:
    for line in log_lines(kube, find_job(kube, given), follow=follow):
        print(line, flush=True)
    return 0


def cancel(kube: Kube, given: str) -> int:
    """Delete a job with all that belongs to it, and wait until it is gone."""
    name = find_job(kube, given)["metadata"]["name"]
    kube.delete("rayjobs", name)
    _wait_gone(kube, name)
    print(f"{name} is gone. What its trials have done is kept, and continues when the sweep is submitted again.")
    return 0


def find_job(kube: Kube, given: str) -> Object:
    """The job of this name, or the newest of the sweep of this name. Raises UserError."""
    jobs = kube.find("rayjobs", MANAGED)
    newest = sorted(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]), reverse=True)
    found = next(
        (job for job in newest if given in (job["metadata"]["name"], job["metadata"]["labels"].get(SWEEP_LABEL))), None
    )
    if found is None:
        known = ", ".join(str(job["metadata"]["name"]) for job in newest) or "none"
        raise UserError(f"No job or sweep {given!r} in namespace {kube.namespace}. There: {known}.")
    return found
