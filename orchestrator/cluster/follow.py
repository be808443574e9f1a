"""The verbs on existing jobs: `list`, `status`, `logs`, `cancel`; and waiting for an outcome."""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from orchestrator.cluster.kube import Kube, Object
from orchestrator.cluster.logs import log_lines
from orchestrator.cluster.names import check_namespace
from orchestrator.cluster.rayjob import (
    MANAGED,
    OWNER_NOTE,
    PRIORITY_LABEL,
    SWEEP_LABEL,
    TRIALS_NOTE,
)
from orchestrator.cluster.refusals import ApiAway, NotThere
from orchestrator.cluster.watch import JobState, Note, job_state
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan.show import duration, trials_in_words
from orchestrator.plan.states import State
from orchestrator.store import read_store
from orchestrator.store.base import Store
from orchestrator.store.finding import find_trial
from orchestrator.store.jobs import read_outcome
from orchestrator.store.names import trials_of_sweep
from orchestrator.store.trials import glances_at, looks_at
from orchestrator.trials.spent import spent

LOOK_EVERY_S = 3.0
AWAY_DEADLINE_S = 900.0  # a sweep takes days: waiting for it should survive a short outage
PROGRESS_EVERY_S = 20.0  # a look costs a few requests for each trial that has not ended
OF_JOB = re.compile(r"-[0-9a-f]{6}$")  # what a job's name adds to its sweep's
HOPELESS_S = 180.0
FORGOTTEN_S = 60.0  # a cause that was not seen for this long counts as a new one
# Longer than the workers' grace period (180 s), all of which they use if their head is lost.
GONE_DEADLINE_S = 200.0


def outcome(kube: Kube, name: str) -> int:
    """Follow a job to its end; returns the sweep's own exit code. Raises EnvironmentProblem."""
    last_shown: tuple[str, tuple[Note, ...]] | None = None
    away_since: float | None = None
    patience = Patience()
    progress = Progress()
    while True:
        try:
            job = kube.get("rayjobs", name)
            state = job_state(kube, job)
        except NotThere:
            raise EnvironmentProblem(
                f"{name} was cancelled. What its trials have done is kept."
            ) from None
        except ApiAway as error:
            if away_since is None:
                away_since = time.monotonic()
                print(
                    f"{error}\n  The sweep goes on by itself. "
                    f"Retrying for {AWAY_DEADLINE_S / 60:.0f} minutes.",
                    flush=True,
                )
            if time.monotonic() - away_since > AWAY_DEADLINE_S:
                raise
        else:
            away_since = None
            patience.look(state)
            if (state.phase, state.notes) != last_shown:
                last_shown = (state.phase, state.notes)
                print_state(state)
            progress.look(state, _trials_of(job))
            if state.finished:
                return outcome_of(state)
        time.sleep(LOOK_EVERY_S)


class Progress:
    """Prints how far a sweep's trials are whenever that changes, reading the store now and then."""

    def __init__(self) -> None:
        self._looked = -math.inf
        self._last_line = ""
        self._ended: dict[str, State] = {}

    def look(self, state: JobState, ids: Sequence[str]) -> None:
        if state.phase != "running" or time.monotonic() - self._looked < PROGRESS_EVERY_S:
            return
        try:
            line = _in_words(self.states(read_store(state.store), ids))
        except EnvironmentProblem:  # out of reach from here, though perhaps not for the pods
            return
        finally:
            self._looked = time.monotonic()
        if line != self._last_line:
            self._last_line = line
            print(f"  {line}", flush=True)

    def states(self, store: Store, ids: Sequence[str]) -> list[State]:
        """The states of the trials. Those that have ended are not looked up again."""
        open_ones = [trial for trial in ids if trial not in self._ended]
        states = {
            trial: look.state for trial, look in glances_at(store, open_ones).items()
        } | self._ended
        self._ended = {trial: state for trial, state in states.items() if state.has_ended}
        return list(states.values())


class Patience:
    """Gives up waiting for pods that cannot start.

    Even a cause that does not pass by itself gets HOPELESS_S, since an image may be on its way to
    its registry.
    """

    def __init__(self) -> None:
        self._first_seen: dict[str, float] = {}
        self._last_seen: dict[str, float] = {}

    def look(self, state: JobState) -> None:
        """Raises EnvironmentProblem once a cause has lasted HOPELESS_S."""
        now = time.monotonic()
        for note in state.notes:
            if note.is_certain:
                # By pod, since the words change: an image is tried, waited for, tried again.
                pod = note.text.partition(":")[0]
                if now - self._last_seen.get(pod, -math.inf) > FORGOTTEN_S:
                    self._first_seen[pod] = now
                self._last_seen[pod] = now
                if now - self._first_seen[pod] > HOPELESS_S:
                    raise EnvironmentProblem(
                        f"{state.name} cannot start, and will not by itself:\n"
                        f"  {note.in_words(datetime.now(UTC))}\n"
                        "The job is still there and starts once the cause is fixed. "
                        f"To end it: normsweep cancel {state.name}"
                    )


def outcome_of(state: JobState) -> int:
    """Print what a finished job's sweep left in the store; returns the sweep's exit code.

    Raises EnvironmentProblem if it left nothing.
    """
    kept = read_outcome(read_store(state.store), state.name)
    if kept is None:
        notes = "".join(f"\n  {note}" for note in state.lines())
        raise EnvironmentProblem(
            f"{state.name} ended without an outcome. Submit the sweep again to continue it.{notes}"
        )
    if summary := kept.get("summary"):
        print(summary)
    if kept["message"]:
        print(kept["message"], file=sys.stderr)
    return int(kept["exit_code"])


def print_state(state: JobState) -> None:
    print(f"{state.name}: {state.phase}", flush=True)
    for line in state.lines():
        print(f"  {line}", flush=True)


def list_jobs(kube: Kube) -> int:
    jobs = sorted(
        kube.find("rayjobs", MANAGED), key=lambda job: str(job["metadata"]["creationTimestamp"])
    )
    if not jobs:
        check_namespace(kube)
        print(f"No sweeps in namespace {kube.namespace}.")
    for job in jobs:
        state = job_state(kube, job)
        print(f"{state.name}: {state.phase}{_about(job)}")
        for line in state.lines():
            print(f"  {line}")
    return 0


def _about(job: Object) -> str:
    """`, 3.5 h old, by ann, priority high`: what is known of a job besides its state."""
    metadata = job["metadata"]
    parts = []
    if made := metadata.get("creationTimestamp"):
        age = datetime.now(UTC) - datetime.fromisoformat(str(made))
        parts.append(f"{duration(max(0.0, age.total_seconds()))} old")
    if owner := (metadata.get("annotations") or {}).get(OWNER_NOTE):
        parts.append(f"by {owner}")
    if priority := (metadata.get("labels") or {}).get(PRIORITY_LABEL):
        parts.append(f"priority {priority}")
    return "".join(f", {part}" for part in parts)


def show_job(kube: Kube, given: str, store_uri: str) -> int:
    """Print the state of a job and how far its trials are.

    If the job is no longer on the cluster, what the store knows of its sweep is printed instead.
    Returns the sweep's exit code once the job has finished, else 0.
    """
    try:
        job = find_job(kube, given)
    except UserError:
        store = read_store(store_uri)
        sweep = next(
            (name for name in (given, OF_JOB.sub("", given)) if trials_of_sweep(store, name)), None
        )
        if sweep is None:
            raise
        print(f"{sweep} is not on the cluster (any more). According to its store {store_uri}:")
        print(f"  {_trials_in_words(store_uri, trials_of_sweep(store, sweep))}")
        return 0
    state = job_state(kube, job)
    print_state(state)
    try:
        print(f"  {_trials_in_words(state.store, _trials_of(job))}")
    except EnvironmentProblem as error:
        print(f"  The progress of its trials cannot be seen from here: {error}")
    return outcome_of(state) if state.finished else 0


def _trials_of(job: Object) -> list[str]:
    return str(job["metadata"]["annotations"][TRIALS_NOTE]).split(",")


def _trials_in_words(store_uri: str, ids: Sequence[str]) -> str:
    """Read how far these trials are, and what they have cost. Raises EnvironmentProblem."""
    store = read_store(store_uri)
    looks = looks_at(store, ids).values()
    return f"{_in_words(look.state for look in looks)}\n  {spent(store, looks)}"


def _in_words(states: Iterable[State]) -> str:
    counted = Counter(states)
    numbers = ", ".join(f"{number} {word}" for word, number in sorted(counted.items()))
    return f"of {trials_in_words(counted.total())}: {numbers}"


def show_log(kube: Kube, given: str, *, follow: bool) -> int:
    for line in log_lines(kube, find_job(kube, given), follow=follow):
        print(line, flush=True)
    return 0


def store_of_trial(kube: Kube, given: str, trial: str) -> tuple[Store, str]:
    """The store of a job as seen from here, and the id of the trial of it that `trial` means.

    Raises UserError for a trial that the job does not have, EnvironmentProblem for a store that is
    out of reach.
    """
    job = find_job(kube, given)
    ids = _trials_of(job)
    store = read_store(job_state(kube, job).store)
    found = [trial_id for trial_id in ids if trial_id.startswith(trial)]
    if len(found) != 1:
        found = [find_trial(store, trial)]
    if found[0] not in ids:
        raise UserError(
            f"--trial {trial}: the job {job['metadata']['name']} does not have this trial. "
            f"It has {trials_in_words(len(ids))}: {', '.join(ids[:5])}{', ...' * (len(ids) > 5)}."
        )
    return store, found[0]


def cancel(kube: Kube, given: str, *, remove_finished: bool = False) -> int:
    """End a job: delete it with all that belongs to it, and wait until it is gone.

    A finished one stays, unless `remove_finished`.
    """
    job = find_job(kube, given)
    name = job["metadata"]["name"]
    if (state := job_state(kube, job)).finished and not remove_finished:
        print(
            f"{name} is {state.phase}: there is nothing to cancel. "
            "Its record and log stay until the sweep is submitted again;\n"
            f"`normsweep cancel --remove {given}` deletes them now. "
            f"Its trials are in {state.store} either way."
        )
        return 0
    remove(kube, name)
    if state.finished:
        print(f"The record and the log of {name} are deleted. Its trials stay in {state.store}.")
    else:
        print(
            f"{name} is gone. What its trials have done is kept; "
            "submit the sweep again to continue them.\n"
            f"To see how far they are: normsweep status {given} --store {state.store}"
        )
    return 0


def remove(kube: Kube, name: str) -> None:
    """Delete a job with all that belongs to it, and wait until it is gone.

    Raises EnvironmentProblem.
    """
    try:
        kube.delete("rayjobs", name)
    except NotThere:
        return
    wait_gone(kube, name)


def wait_gone(kube: Kube, name: str) -> None:
    """Wait for a job that is being deleted. Raises EnvironmentProblem."""
    until = time.monotonic() + GONE_DEADLINE_S
    while time.monotonic() < until:
        try:
            kube.get("rayjobs", name)
        except NotThere:
            return
        time.sleep(0.5)
    raise EnvironmentProblem(
        f"{name} was deleted {GONE_DEADLINE_S:.0f} s ago and is not gone. "
        f"kubectl describe rayjob {name} says why."
    )


def find_job(kube: Kube, given: str) -> Object:
    """The job of this name, or the newest of the sweep of this name. Raises UserError."""
    jobs = kube.find("rayjobs", MANAGED)
    newest = sorted(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]), reverse=True)
    found = next(
        (
            job
            for job in newest
            if given in (job["metadata"]["name"], job["metadata"]["labels"].get(SWEEP_LABEL))
        ),
        None,
    )
    if found is None:
        check_namespace(kube)
        known = ", ".join(str(job["metadata"]["name"]) for job in newest) or "none"
        raise UserError(
            f"No job or sweep {given!r} in namespace {kube.namespace}. Known: {known}.\n"
            "Given its --store (or NORMSWEEP_STORE), `status` shows the trials of one that was "
            "cancelled."
        )
    return found
