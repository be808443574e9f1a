"""`normsweep ui JOB`: a job's MLflow and Ray's dashboard, at addresses of this machine."""

from __future__ import annotations

import json
import sys
import threading
import webbrowser
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from urllib.parse import SplitResult, urlsplit

from orchestrator.cluster.follow import find_job
from orchestrator.cluster.forward import HERE, forwarded
from orchestrator.cluster.kube import Kube, Object
from orchestrator.cluster.rayjob import FLAGS_NOTE
from orchestrator.cluster.refusals import ApiAway, Forbidden, NotThere
from orchestrator.cluster.tunnel import Tunnel
from orchestrator.cluster.watch import CLUSTER_LABEL, job_state
from orchestrator.errors import EnvironmentProblem
from orchestrator.tracking.address import parse
from orchestrator.tracking.pages import links
from orchestrator.ui import is_desktop, signals_interrupt

DASHBOARD_PORT = 8265
PORTS = {"http": 80, "https": 443}


def show_pages(kube: Kube, given: str, port: int, *, opens: bool = True) -> int:
    """Forward ports of this machine to a job's pages and say where they are, until interrupted.

    `port` is MLflow's here; another one is taken if it is in use, as for the dashboard. Where a job
    has no page on the cluster, a sentence says why. Returns the exit code. Raises UserError for an
    unknown job, EnvironmentProblem if the account may not forward ports.
    """
    job = find_job(kube, given)
    with signals_interrupt() as interrupt, ExitStack() as stack:
        try:
            interrupt.let_go()
            pages = _opened(kube, job, port, stack)
            if pages:
                print("Ctrl-C ends it.", flush=True)
                if opens and is_desktop():
                    webbrowser.open(pages[0])
                wait()
        except KeyboardInterrupt:
            return 0
    return 0


def _opened(kube: Kube, job: Object, port: int, stack: ExitStack) -> list[str]:
    """Forward ports until the stack closes, and print where the pages are; returns these."""
    say, pages = _Voice(), list[str]()
    if (service := _mlflow(kube, job)) is not None:
        try:
            service.tunnel(kube).close()  # says now what is wrong, and not in a browser
        except (Forbidden, ApiAway):
            raise
        except EnvironmentProblem as error:
            say(str(error))
        here = stack.enter_context(forwarded(port, partial(service.tunnel, kube), say))
        pages.append(_page_of_sweep(service.seen_at(here), job_state(kube, job).sweep))
        print(f"MLflow: {pages[0]}", flush=True)
    if _has_dashboard(kube, job):
        reach = partial(_head, kube, job["metadata"]["name"])
        here = stack.enter_context(forwarded(DASHBOARD_PORT, reach, say))
        pages.append(f"http://{HERE}:{here}")
        print(f"Ray's dashboard: {pages[-1]}", flush=True)
        _print_token(kube, job)
    return pages


def wait() -> None:
    """Wait for a signal."""
    threading.Event().wait()


class _Voice:
    """Prints what is wrong with connections, once for as long as it stays the same."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, text: str) -> None:
        if text != self._last:
            self._last = text
            print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Service:
    """A Service of the namespace that a job's runs are sent to, and its address as pods see it."""

    manifest: Object
    address: SplitResult

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def seen_at(self, port: int) -> str:
        """Its address on this machine."""
        return f"{self.address.scheme}://{HERE}:{port}{self.address.path.rstrip('/')}"

    def tunnel(self, kube: Kube) -> Tunnel:
        """Connect to one of its pods. Raises EnvironmentProblem."""
        selector = ",".join(f"{k}={v}" for k, v in self.manifest["spec"]["selector"].items())
        pod = _running(kube, selector)
        if pod is None:
            raise EnvironmentProblem(
                f"MLflow does not run: the Service {self.name} of namespace {kube.namespace} has "
                f"no running pod. kubectl -n {kube.namespace} get pods -l {selector}"
            )
        return _connect(kube, pod, self._port_of(pod))

    def _port_of(self, pod: Object) -> int:
        wanted = self.address.port or PORTS[self.address.scheme]
        ports = {int(port["port"]): port for port in self.manifest["spec"]["ports"]}
        if wanted not in ports:
            raise EnvironmentProblem(
                f"The Service {self.name} has no port {wanted} (it has: "
                f"{', '.join(map(str, ports))})."
            )
        target = ports[wanted].get("targetPort", wanted)
        if isinstance(target, int):
            return target
        named = (
            port["containerPort"]
            for container in pod["spec"]["containers"]
            for port in container.get("ports", ())
            if port.get("name") == target
        )
        return int(next(named, wanted))


def _mlflow(kube: Kube, job: Object) -> _Service | None:
    """The Service that has the job's runs; None, and a sentence, if none of the namespace has."""
    flags = json.loads(job["metadata"].get("annotations", {}).get(FLAGS_NOTE, "{}"))
    tracking = str(flags.get("--tracking", ""))
    address = urlsplit(tracking)
    name, *domain = (address.hostname or "").split(".")
    is_here = not domain or domain[0] == kube.namespace
    if address.scheme in PORTS and is_here:
        manifest = kube.content("Service", name)
        if manifest is not None and manifest["spec"].get("selector"):
            return _Service(manifest, address)
    print(
        f"MLflow is not in namespace {kube.namespace}, as far as your account may see: the job's "
        f"runs are at {parse(tracking).shown if tracking else 'an address that it does not name'}.",
        flush=True,
    )
    return None


def _has_dashboard(kube: Kube, job: Object) -> bool:
    """Whether the job has a dashboard, or will have one. A sentence says so if there is none yet.

    It ends with the job's pods.
    """
    state = job_state(kube, job)
    if state.finished:
        print(f"{state.name} is {state.phase}: Ray's dashboard has ended with its pods.")
        return False
    if _running(kube, _head_selector(job)) is None:
        print(f"{state.name} is {state.phase}: the dashboard answers once its head runs.")
        for line in state.lines():
            print(f"  {line}")
    return True


def _head(kube: Kube, name: str) -> Tunnel:
    """Connect to the dashboard of a job's head as it is now. Raises EnvironmentProblem."""
    try:
        job = kube.get("rayjobs", name)
    except NotThere:
        raise EnvironmentProblem(f"{name} was cancelled: Ray's dashboard is gone.") from None
    pod = _running(kube, _head_selector(job))
    if pod is None:
        state = job_state(kube, job)
        gone = "has ended with its pods" if state.finished else "answers once its head runs"
        raise EnvironmentProblem(f"{name} is {state.phase}: Ray's dashboard {gone}.")
    started = job["spec"]["rayClusterSpec"]["headGroupSpec"].get("rayStartParams") or {}
    return _connect(kube, pod, int(started.get("dashboard-port", DASHBOARD_PORT)))


def _head_selector(job: Object) -> str:
    cluster = (job.get("status") or {}).get("rayClusterName", "")
    return f"{CLUSTER_LABEL}={cluster},ray.io/node-type=head"


def _running(kube: Kube, selector: str) -> Object | None:
    """The newest pod that runs and is not going away."""
    found = [
        pod
        for pod in kube.pods(selector)
        if (pod.get("status") or {}).get("phase") == "Running"
        and "deletionTimestamp" not in pod["metadata"]
    ]
    return max(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), default=None)


def _connect(kube: Kube, pod: Object, port: int) -> Tunnel:
    name = pod["metadata"]["name"]
    try:
        return kube.tunnel(name, port)
    except NotThere:
        raise EnvironmentProblem(f"The pod {name} has just gone. Load the page again.") from None


def _print_token(kube: Kube, job: Object) -> None:
    """Say where the token is that the dashboard asks for. KubeRay keeps it in a Secret."""
    cluster = (job.get("status") or {}).get("rayClusterName")
    auth = job["spec"]["rayClusterSpec"].get("authOptions") or {}
    if cluster and auth.get("mode") == "token":
        print(
            "  It asks for the cluster's token. Whoever may read Secrets gets it by:\n"
            f"  kubectl -n {kube.namespace} get secret {cluster} "
            "-o jsonpath='{.data.auth_token}' | base64 -d",
            flush=True,
        )


def _page_of_sweep(server: str, sweep: str) -> str:
    """The page of a sweep's runs, or MLflow's first page if it has none or asks who we are."""
    return links(parse(server), server).get(sweep, server)
