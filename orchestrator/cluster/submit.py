"""`normsweep submit`: makes the RayJob of a sweep, attaches to it, or replaces it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from orchestrator.cluster.follow import GONE_DEADLINE_S, outcome, remove, wait_gone
from orchestrator.cluster.kube import Kube, Object
from orchestrator.cluster.names import check_names, check_namespace
from orchestrator.cluster.options import JobOptions, flags_of
from orchestrator.cluster.rayjob import FLAGS_NOTE, MANAGED, STORE_NOTE, SWEEP_LABEL, Job, build_job
from orchestrator.cluster.refusals import Exists
from orchestrator.cluster.watch import FINISHED, JobState, job_state
from orchestrator.errors import EnvironmentProblem, TrialsFailed, UserError
from orchestrator.initial import keep_initial
from orchestrator.loopback import is_this_machine
from orchestrator.objects import is_s3
from orchestrator.plan import Plan
from orchestrator.plan.fit import too_large_for_a_gpu
from orchestrator.plan.on_gpus import waits_for_gpus
from orchestrator.plan.show import duration, gpus_in_words, seconds_left, trials_in_words
from orchestrator.plan.states import State
from orchestrator.store import open_store
from orchestrator.store.jobs import clear_outcome
from orchestrator.store.names import claim_name
from orchestrator.store.stops import has_ended_for
from orchestrator.store.trials import Look, looks_at
from orchestrator.tracking.address import parse


@dataclass(frozen=True)
class SubmitOptions:
    """The flags of `normsweep submit`."""

    job: JobOptions
    dry_run: bool = False
    wait: bool = False


def submit(kube: Kube, plan: Plan, options: SubmitOptions) -> int:
    """Make the job of a plan, or attach to the one that is there.

    Returns the exit code; with `wait`, the sweep's own. Raises UserError, EnvironmentProblem.
    """
    _check_options(options.job)
    job = build_job(plan, options.job)
    check_namespace(kube)
    there = _unfinished(kube, plan.sweep, job.name)
    if there is not None:
        return _attach(kube, job, there, options)
    store = open_store(options.job.store)
    for warning in plan.warnings:
        print(warning)
    looks = looks_at(store, [trial.id for trial in plan.trials], verify=True)
    ended = {trial for trial, look in looks.items() if has_ended_for(plan, look)}
    if len(ended) == len(looks):
        if plan.gate is None:
            return _nothing_to_do(plan, looks, options)
        job = build_job(plan, options.job, trains=False)  # only judges
    unseen = check_names(kube, job, options.job)
    reached = {look.trial: look.step for look in looks.values() if look.trial not in ended}
    _print_what(job, options.job, reached, says_device=waits_for_gpus(plan))
    for sentence in unseen:
        print(f"  {sentence}")
    _try(kube, job)
    if options.dry_run:
        print("The cluster would take it. Nothing was made (--dry-run).")
        return 0
    claim_name(plan, store)
    clear_outcome(store, job.name)  # an earlier job of this name may have left one
    keep_initial(plan, store)  # pods do not see this machine's files
    made = _make(kube, job, plan.sweep)
    _give_files(kube, job, made)
    print(
        f"Made {job.name}. To follow it: normsweep status {job.name}, normsweep logs -f {job.name}"
    )
    return outcome(kube, job.name) if options.wait else 0


def _nothing_to_do(plan: Plan, looks: Mapping[str, Look], options: SubmitOptions) -> int:
    """Say that every trial of a sweep has ended; returns the exit code."""
    diverged = sum(look.state == State.DIVERGED for look in looks.values())
    diverging = f", {diverged} of them by diverging" if diverged else ""
    those = (
        f"all {len(looks)} trials of {plan.sweep} have"
        if len(looks) > 1
        else f"the one trial of {plan.sweep} has"
    )
    print(f"Nothing to do: {those} ended in {options.job.store}{diverging}.")
    return TrialsFailed.exit_code if diverged and options.wait else 0


def _attach(kube: Kube, job: Job, there: Object, options: SubmitOptions) -> int:
    """Attach to an unfinished job.

    Raises UserError if it was made with other flags, since those given now would have no effect.
    """
    state = job_state(kube, there)
    if differing := _differing(there, options.job):
        raise UserError(
            f"{state.name} is {state.phase} already, but was made with other flags:\n{differing}\n"
            "Give the same flags to attach to it, or end it first: "
            f"normsweep cancel {state.name}    (what is done is kept)"
        )
    print(f"{state.name} is {state.phase} already.")
    if options.dry_run:
        check_names(kube, job, options.job)
        _try(kube, job)
        print("The cluster would take it again. Nothing was made (--dry-run).")
        return 0
    _give_files(kube, job, there)
    return outcome(kube, job.name) if options.wait else 0


def _differing(there: Object, options: JobOptions) -> str:
    """Lines for the flags whose values are not those that the job was made with.

    Jobs from before flags were kept have only their store.
    """
    notes = there["metadata"].get("annotations", {})
    kept = json.loads(notes.get(FLAGS_NOTE) or json.dumps({"--store": notes.get(STORE_NOTE)}))
    given = flags_of(options)
    return "\n".join(
        f"  {flag}: {_in_words(was)}, now {_in_words(given.get(flag))}"
        for flag, was in kept.items()
        if was != given.get(flag)
    )


def _in_words(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _check_options(options: JobOptions) -> None:
    """Refuse addresses that pods cannot reach, and flags that clash. Raises UserError."""
    if options.priority and not options.queue:
        raise UserError(f"--priority {options.priority} needs --queue.")
    if options.most_replicas and options.queue:
        raise UserError(
            "--autoscale does not go with --queue, since Kueue counts fixed pods. Give --replicas."
        )
    if not is_s3(options.store):
        raise UserError(
            f"--store {options.store}: pods on several nodes need a store that all of them reach. "
            "Give s3://BUCKET/PREFIX."
        )
    if not options.tracking.lower().startswith(("http://", "https://")):
        raise UserError(
            f"--tracking {options.tracking}: pods need a server. That of k8s/base is "
            "http://mlflow:5000."
        )
    address = parse(options.tracking)
    if address.credentials is not None:
        raise UserError(
            "--tracking: the address holds a password, which everyone could read in the job. "
            "Put MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD into the Secret "
            f"{options.secret} instead."
        )
    if is_this_machine(urlsplit(address.uri).hostname or ""):
        raise UserError(
            f"--tracking {options.tracking}: for a pod that is the pod itself. "
            "Give the server's name in the cluster."
        )
    for root in options.data_roots:
        if not is_s3(root):
            raise UserError(
                f"--data {root}: pods do not see this machine's folders. "
                "Stage it: normsweep data stage NAME --to s3://..."
            )


def _unfinished(kube: Kube, sweep: str, name: str) -> Object | None:
    """Find the unfinished job of this name, once those being deleted are gone.

    Raises UserError if another job of the sweep is unfinished.
    """
    found = None
    for item in kube.find("rayjobs", _of(sweep)):
        if "deletionTimestamp" in item["metadata"]:
            wait_gone(kube, item["metadata"]["name"])
        elif not _is_finished(item) and item["metadata"]["name"] != name:
            raise UserError(_another(sweep, job_state(kube, item)))
        elif not _is_finished(item):
            found = item
    return found


def _of(sweep: str) -> str:
    return f"{MANAGED},{SWEEP_LABEL}={sweep}"


def _another(sweep: str, state: JobState) -> str:
    return (
        f"Another version of the sweep {sweep} is {state.phase}: {state.name} "
        "(the file, the image or a norm differs). Either\n"
        f"  wait for it:    normsweep status {state.name}\n"
        f"  or end it:      normsweep cancel {state.name}    "
        "(what is done is kept, and the new job uses it)\n"
        "  or give this one another name: `sweep: ...` in the file"
    )


def _is_finished(rayjob: Object) -> bool:
    return (rayjob.get("status") or {}).get("jobDeploymentStatus") in FINISHED


def _try(kube: Kube, job: Job) -> None:
    """Let the API server admit and validate both objects, without making them.

    If one of this name exists, to be replaced or attached to, the server would look no further, so
    it is tried under another name.
    """
    for make, body in (
        (partial(kube.create, "rayjobs"), job.rayjob),
        (kube.create_config_map, job.config_map),
    ):
        try:
            make(body, dry_run=True)
        except Exists:
            other = {**body["metadata"], "name": f"{job.plan.sweep}-{'0' * 6}"}
            with contextlib.suppress(Exists):
                make({**body, "metadata": other}, dry_run=True)


def _make(kube: Kube, job: Job, sweep: str) -> Object:
    """Make the job in place of the sweep's finished ones, or return the one that is there.

    Raises UserError if another version was submitted a moment earlier.
    """
    while True:
        for item in kube.find("rayjobs", _of(sweep)):
            if _is_finished(item):
                remove(kube, item["metadata"]["name"])
        try:
            made = kube.create("rayjobs", job.rayjob)
            break
        except Exists:  # someone else is submitting or ending the same job
            there = _unfinished(kube, sweep, job.name)
            if there is not None:
                return there
    # Of two versions that are submitted at once, the older job stays.
    others = [
        item
        for item in kube.find("rayjobs", _of(sweep))
        if not _is_finished(item) and _age(item) < _age(made)
    ]
    if others:
        remove(kube, job.name)
        raise UserError(_another(sweep, job_state(kube, others[0])))
    return made


def _age(rayjob: Object) -> tuple[str, str]:
    """The key to sort jobs by: their age, and within a second their name."""
    return rayjob["metadata"]["creationTimestamp"], rayjob["metadata"]["name"]


def _give_files(kube: Kube, job: Job, rayjob: Object) -> None:
    """Make the ConfigMap with the sweep, which pods wait for and which goes when the job goes.

    Raises EnvironmentProblem.
    """
    uid = rayjob["metadata"]["uid"]
    owner = {
        "apiVersion": rayjob["apiVersion"],
        "kind": rayjob["kind"],
        "name": rayjob["metadata"]["name"],
        "uid": uid,
        "blockOwnerDeletion": False,
    }
    metadata = {**job.config_map["metadata"], "ownerReferences": [owner]}
    until = time.monotonic() + GONE_DEADLINE_S
    while time.monotonic() < until:
        try:
            kube.create_config_map({**job.config_map, "metadata": metadata})
            return
        except Exists:  # this job's own, or that of an earlier job, which is about to go
            if uid in kube.owners_of_config_map(job.name):
                return
        time.sleep(0.5)
    raise EnvironmentProblem(
        f"ConfigMap {job.name} belongs to something else and does not go away. "
        f"kubectl describe configmap {job.name} says to what."
    )


def _print_what(
    job: Job, options: JobOptions, reached: Mapping[str, int], *, says_device: bool
) -> None:
    """Print what will run where. `reached`: the step that each trial to train continues from."""
    plan = job.plan
    print(
        f"Sweep {plan.sweep}: {trials_in_words(len(plan.trials))}, {len(reached)} to train, "
        f"about {duration(seconds_left(plan.trials, reached))} one after the other."
    )
    print(
        f"RayJob {job.name}, image {options.image}"
        + (f", queue {options.queue}" if options.queue else "")
    )
    print(f"  files sent along: {', '.join(job.files)}")
    if says_device:
        print(f"Placement: {gpus_in_words(job.gpus)}")
    for warning in too_large_for_a_gpu(plan.trials):
        print(f"Warning: {warning}")
    if not job.groups:
        print("  no workers: every trial has ended, and the head judges them")
    for group in job.groups:
        gpus = f", {group.pod_gpus} GPU" if group.gpus else ""
        cpus = group.cpus * group.workers
        pods = (
            f"{group.replicas}"
            if group.most == group.replicas
            else f"{group.replicas} to {group.most}"
        )
        ranks = f"{group.workers} rank{'s' * (group.workers > 1)} each"
        print(f"  {pods} x {group.name}: {cpus} CPU{gpus}, {group.memory_gib} GiB, {ranks}")
    print(
        f"  store {options.store}; MLflow {options.tracking}; "
        f"S3 keys and address from Secret {options.secret}"
    )
    here = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    if here.hostname and is_this_machine(here.hostname):
        print(
            f"  (S3 is at {here.geturl()} for this machine. For a pod that is the pod itself, "
            "so the Secret must name another address.)"
        )
