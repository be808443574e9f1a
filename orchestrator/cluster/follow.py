"""The verbs on jobs that are there: `list`, `status`, `logs`, `cancel`, and following one to its outcome in the store."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

from orchestrator.cluster.kube import ApiAway, Kube, NotThere, Object
from orchestrator.cluster.rayjob import MANAGED, SWEEP_LABEL, TRIALS_NOTE
from orchestrator.cluster.watch import JobState, job_state, log_lines
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.store import read_store
from orchestrator.store.jobs import read_outcome
from orchestrator.store.trials import states_of

LOOK_EVERY_S = 3.0
AWAY_DEADLINE_S = 900.0  # of the API, while somebody waits for a sweep of days
GONE_DEADLINE_S = 200.0  # more than the pods' grace period: those whose head was lost use it


def outcome(kube: Kube, name: str) -> int:
    """Follow a job to its end; the sweep's own exit code. Raises EnvironmentProblem."""
    told: tuple[str, tuple[str, ...]] | None = None
    away_since: float | None = None
    while True:
        try:
            state = job_state(kube, kube.get("rayjobs", name))
        except NotThere:
            raise EnvironmentProblem(f"{name} was cancelled. What its trials have done is kept.") from None
        except ApiAway as error:
            if away_since is None:
                away_since = time.monotonic()
                print(
                    f"{error}\n  The sweep goes on by itself; looking again for {AWAY_DEADLINE_S / 60:.0f} minutes.",
                    flush=True,
                )
            if time.monotonic() - away_since > AWAY_DEADLINE_S:
                raise
        else:
            away_since = None
            if (state.phase, state.notes) != told:
                told = (state.phase, state.notes)
                print_state(state)
            if state.finished:
                return outcome_of(state)
        time.sleep(LOOK_EVERY_S)


def outcome_of(state: JobState) -> int:
    """The exit code of a finished job's sweep, as the store has it."""
    kept = read_outcome(read_store(state.store), state.name)
    if kept is None:
        notes = "".join(f"\n  {note}" for note in state.notes)
        raise EnvironmentProblem(f"{state.name} ended without an outcome. Submit it again: it continues.{notes}")
    if kept["message"]:
        print(kept["message"], file=sys.stderr)
    return int(kept["exit_code"])


def print_state(state: JobState) -> None:
    print(f"{state.name}: {state.phase}", flush=True)
    for note in state.notes:
        print(f"  {note}", flush=True)


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
    return outcome_of(state) if state.finished else 0


def _trials_told(store_uri: str, ids: Sequence[str]) -> str:
    """Raises EnvironmentProblem."""
    counted = Counter(states_of(read_store(store_uri), ids).values())
    return f"of {len(ids)} trials: " + ", ".join(f"{number} {word}" for word, number in sorted(counted.items()))


def show_log(kube: Kube, given: str, *, follow: bool) -> int:
    for line in log_lines(kube, find_job(kube, given), follow=follow):
        print(line, flush=True)
    return 0


def cancel(kube: Kube, given: str) -> int:
    """Delete a job with all that belongs to it, and wait until it is gone."""
    name = find_job(kube, given)["metadata"]["name"]
    remove(kube, name)
    print(f"{name} is gone. What its trials have done is kept, and continues when the sweep is submitted again.")
    return 0


def remove(kube: Kube, name: str) -> None:
    """Delete a job with all that belongs to it, and wait until it is gone. Raises EnvironmentProblem."""
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
        f"{name} is being deleted for {GONE_DEADLINE_S:.0f} s: kubectl describe rayjob {name} says why"
    )


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
