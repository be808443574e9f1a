"""The output of a sweep on a cluster, without what Ray's command line adds to it."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Iterator

from orchestrator.cluster.kube import Kube, Object
from orchestrator.cluster.refusals import NotThere
from orchestrator.cluster.watch import ANSI, job_state
from orchestrator.errors import EnvironmentProblem

LOOK_EVERY_S = 2.0
SUBMITTER = "ray-job-submitter"
# What `ray job submit` and `ray job logs` (2.60) say about themselves. Where the output is not a
# terminal, a time precedes it.
OF_RAY = re.compile(
    r"(?:\S+ \S+\s+)?(?:(?:INFO|SUCC|ERR|WARN)\w*\s+\S+:\d+ --)?\s*"
    r"(?:Job submission server address: .*|-{5,}|"
    r"Job '.*' (?:submitted successfully|succeeded|failed|was stopped)|Next steps|"
    r"Query the (?:logs|status) of the job:|Request the job to be stopped:|"
    r"ray job (?:logs|status|stop) \S+|"
    r"Runtime env is setting up\.|Running entrypoint for job .*|WebSocket closed for job .*|"
    r"Tailing logs until the job exits.*|Status for job '.*': \w+)"
    r"|\S+ \S+\s+\w+\s+cli\.py:\d+ --\s*"
)
# Files whose frames are in the submitter's tracebacks, and not in the sweep's.
OF_SUBMITTER = ("/ray/dashboard/", "/ray/scripts/", "/aiohttp/")
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
HEAD_IS_GONE = "(the head is gone: its output cannot be followed any further)"


def log_lines(kube: Kube, job: Object, *, follow: bool) -> Iterator[str]:
    """Yield the driver's output from the logs of the submitters' pods.

    Without `follow` this is the newest pod's log so far; with it, each pod's in turn until the job
    has finished. Raises EnvironmentProblem if there is none.
    """
    name, shown = job["metadata"]["name"], set[str]()
    while True:
        started = [
            pod for pod in _submitters(kube, name) if pod["status"].get("phase") != "Pending"
        ]
        fresh = [pod["metadata"]["name"] for pod in started if pod["metadata"]["name"] not in shown]
        for pod in fresh if follow else fresh[-1:]:
            shown.add(pod)
            with contextlib.suppress(NotThere):  # it has just gone
                yield from without_ray(
                    ANSI.sub("", line) for line in kube.log(pod, SUBMITTER, follow=follow)
                )
        state = None if fresh else job_state(kube, job)
        if shown and (not follow or (state is not None and state.finished)):
            return
        if state is not None and (not follow or state.finished):
            reasons = "".join(f"\n  {note}" for note in state.lines())
            raise EnvironmentProblem(
                f"{name} is {state.phase}: there is no log (any more).{reasons}"
            )
        time.sleep(LOOK_EVERY_S)
        try:
            job = kube.get("rayjobs", name)
        except NotThere:
            raise EnvironmentProblem(f"{name} was cancelled") from None


def without_ray(lines: Iterable[str]) -> Iterator[str]:
    """Yield the sweep's own lines, without what Ray's command line says about itself.

    Its traceback when a head goes is replaced by HEAD_IS_GONE.
    """
    traceback: list[str] = []
    was_left_out = is_gone = False
    for line in lines:
        if traceback:
            traceback.append(line)
            if line.startswith(" ") or not line:
                continue
            was_left_out = any(place in part for place in OF_SUBMITTER for part in traceback)
            if was_left_out and not is_gone:
                is_gone = True
                yield HEAD_IS_GONE
            elif not was_left_out:
                yield from traceback
            traceback = []
        elif line.startswith("Traceback (most recent call last):"):
            traceback = [line]
        elif OF_RAY.fullmatch(line) or (
            was_left_out and (not line.strip() or line.startswith(CHAINED))
        ):
            was_left_out = True
        else:
            was_left_out = False
            yield line
    yield from traceback


def _submitters(kube: Kube, name: str) -> list[Object]:
    """The submitters' pods of a job, oldest first."""
    return sorted(
        kube.pods(f"batch.kubernetes.io/job-name={name}"),
        key=lambda pod: str(pod["metadata"]["creationTimestamp"]),
    )
