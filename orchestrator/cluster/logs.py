"""What a sweep on a cluster prints, without what Ray's command line adds to it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from orchestrator.cluster.kube import Kube, NotThere, Object
from orchestrator.cluster.watch import ANSI, job_state
from orchestrator.errors import EnvironmentProblem

LOOK_EVERY_S = 2.0
SUBMITTER = "ray-job-submitter"


def log_lines(kube: Kube, job: Object, *, follow: bool) -> Iterator[str]:
    """The driver's output, as submitters' pods have it: of the newest, or with `follow` of each until the job has finished.

    Raises EnvironmentProblem where there is none.
    """
    name, shown = job["metadata"]["name"], set[str]()
    while True:
        started = [pod for pod in _submitters(kube, name) if pod["status"].get("phase") != "Pending"]
        fresh = [pod["metadata"]["name"] for pod in started if pod["metadata"]["name"] not in shown]
        for pod in fresh if follow else fresh[-1:]:
            shown.add(pod)
            with contextlib.suppress(NotThere):  # it has just gone
                yield from (ANSI.sub("", line) for line in kube.log(pod, SUBMITTER, follow=follow))
        state = None if fresh else job_state(kube, job)
        if shown and (not follow or (state is not None and state.finished)):
            return
        if state is not None and (not follow or state.finished):
            told = "".join(f"\n  {note}" for note in state.lines())
            raise EnvironmentProblem(f"{name} is {state.phase}: there is no log (any more).{told}")
        time.sleep(LOOK_EVERY_S)
        try:
            job = kube.get("rayjobs", name)
        except NotThere:
            raise EnvironmentProblem(f"{name} was cancelled") from None


def _submitters(kube: Kube, name: str) -> list[Object]:
    """Oldest first."""
    return sorted(
        kube.pods(f"batch.kubernetes.io/job-name={name}"), key=lambda pod: str(pod["metadata"]["creationTimestamp"])
    )
