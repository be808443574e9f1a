"""`normsweep ui JOB`: the pages of a job on a cluster, through ports of this machine."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster import kube as clusters
from orchestrator.cluster import pages
from orchestrator.cluster.forward import forwarded
from orchestrator.cluster.kube import Kube
from orchestrator.cluster.options import JobOptions
from orchestrator.cluster.rayjob import build_job
from orchestrator.cluster.refusals import Forbidden, NotThere
from orchestrator.errors import UserError
from orchestrator.store.base import Store
from tests.fake_kube import FakeKube
from tests.in_process import Command
from tests.sweeps import GRID, plan_of

RIGHTS = {
    *(("list", what) for what in ("rayjobs", "pods", "events")),
    *(("get", what) for what in ("rayjobs", "pods/portforward")),
    ("create", "rayjobs"),
}
LONG = b"x" * 3_000_000  # more than sockets hold
SELECTOR = {"app": "mlflow"}
MLFLOW = "app=mlflow"
HEAD = "ray.io/cluster=c,ray.io/node-type=head"


class Page(BaseHTTPRequestHandler):
    """A page that says which server it is of; the connection closes at its end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.server.server_address[1]).encode() + LONG)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def page() -> Iterator[int]:
    """A server of one page; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


class Connection:
    """A tunnel to a port of this machine, which stands for a pod's."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))

    def write(self, content: bytes) -> None:
        self._socket.sendall(content)

    def read(self) -> bytes:
        return self._socket.recv(4096)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Cluster(FakeKube):
    """A cluster whose pods answer on ports of this machine: `behind` has these by pod and port."""

    def __init__(self, store: Store, rights: set[tuple[str, str]] = RIGHTS) -> None:
        super().__init__(rights, store)
        self.behind: dict[tuple[str, int], int] = {}
        self.running: dict[str, str] = {MLFLOW: "mlflow-1", HEAD: "head-1"}  # pod by selector
        self.services: dict[str, Any] = {
            "mlflow": {
                "metadata": {"name": "mlflow"},
                "spec": {"selector": SELECTOR, "ports": [{"port": 5000, "targetPort": "http"}]},
            }
        }

    def pods(self, selector: str) -> list[dict[str, Any]]:
        self._ask("list", "pods")
        containers = [{"ports": [{"name": "http", "containerPort": 5001}]}]
        name = self.running.get(selector)
        metadata = {"name": name, "creationTimestamp": "2026-11-29T02:00:00Z"}
        pod = {"metadata": metadata, "spec": {"containers": containers}}
        return [{**pod, "status": {"phase": "Running"}}] if name else []

    def content(self, kind: str, name: str) -> Any:
        assert kind == "Service"
        return self.services.get(name)

    def tunnel(self, pod: str, port: int) -> Any:
        self._ask("get", "pods/portforward")
        if (pod, port) not in self.behind:
            raise NotThere(pod)
        return Connection(self.behind[pod, port])


def submitted(cluster: Cluster, folder: Path, tracking: str = "http://mlflow:5000") -> str:
    """Give the cluster a job that runs; its name."""
    plan = plan_of(folder, GRID + "data: {evaluate: []}\n", "smoke")
    options = JobOptions(store=cluster.store.uri, tracking=tracking, image="lab/normsweep:1")
    made = build_job(plan, options)
    cluster.create("rayjobs", made.rayjob)
    cluster.end_after(made.name, looks=1)
    cluster.looks[made.name] = 0  # the next look, too, sees it run
    return made.name


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return bytes(answer.read())


@pytest.fixture
def cluster(store: Store) -> Cluster:
    return Cluster(store)


Look = Callable[[dict[str, str]], None]
Shown = Callable[..., tuple[str, str]]


@pytest.fixture
def shown(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shown:
    """`shown(JOB, look)` is what `ui JOB` prints. `look` gets the addresses while they are open."""

    def show(given: str, look: Look = lambda _: None) -> tuple[str, str]:
        before: list[str] = []

        def until_ctrl_c() -> None:
            before.extend(capsys.readouterr())
            found = (line.partition(": http://") for line in before[0].splitlines())
            look({name: f"http://{address}" for name, there, address in found if there})
            raise KeyboardInterrupt

        monkeypatch.setattr(pages, "wait", until_ctrl_c)
        monkeypatch.setattr(
            pages, "links", lambda _, server: {"smoke": f"{server}/#/experiments/7"}
        )
        assert pages.show_pages(cluster, given, 0, opens=False) == 0
        printed = capsys.readouterr()
        out, err = before or ("", "")
        return out + printed.out, err + printed.err

    return show


def test_both_pages_open_on_this_machine_and_are_whole(
    cluster: Cluster, tmp_path: Path, shown: Shown
) -> None:
    submitted(cluster, tmp_path)
    with page() as mlflow, page() as dashboard:
        cluster.behind = {("mlflow-1", 5001): mlflow, ("head-1", 8265): dashboard}

        def look(addresses: dict[str, str]) -> None:
            assert get(addresses["MLflow"]) == str(mlflow).encode() + LONG
            assert get(addresses["Ray's dashboard"]) == str(dashboard).encode() + LONG

        out, err = shown("smoke", look)
    assert re.search(r"^MLflow: http://127\.0\.0\.1:\d+/#/experiments/7$", out, re.MULTILINE)
    assert out.index("MLflow: ") < out.index("Ray's dashboard: ") < out.index("Ctrl-C")
    assert "get secret c -o jsonpath='{.data.auth_token}'" in out
    assert err == ""


@pytest.mark.parametrize(
    ("of_pod", "begins_as", "port", "called", "said"),
    [
        (HEAD, "head-2", 8265, "Ray's dashboard", "Ray's dashboard answers once its head runs"),
        (MLFLOW, "mlflow-2", 5001, "MLflow", "the Service mlflow of namespace normsweep has no"),
    ],
    ids=["head", "mlflow"],
)
def test_a_pod_that_does_not_run_yet_is_said_and_answers_later(
    cluster: Cluster,
    tmp_path: Path,
    shown: Shown,
    of_pod: str,
    begins_as: str,
    port: int,
    called: str,
    said: str,
) -> None:
    name = submitted(cluster, tmp_path)
    del cluster.running[of_pod]
    with page() as served:
        cluster.behind = {("mlflow-1", 5001): served, (begins_as, port): served}

        def look(addresses: dict[str, str]) -> None:
            with pytest.raises(OSError):
                get(addresses[called])
            cluster.running[of_pod] = begins_as
            assert get(addresses[called]).endswith(LONG)

        out, err = shown(name, look)
    assert said in err
    is_head = of_pod == HEAD
    assert (f"{name} is running: the dashboard answers once its head runs." in out) == is_head


def test_of_a_job_that_has_ended_mlflow_is_left(
    cluster: Cluster, tmp_path: Path, shown: Shown
) -> None:
    name = submitted(cluster, tmp_path)
    cluster.end_after(name, looks=2)
    with page() as port:
        cluster.behind = {("mlflow-1", 5001): port}
        out, _ = shown(name)
    assert f"{name} is finished: Ray's dashboard has ended with its pods." in out
    assert "MLflow: http://127.0.0.1:" in out and "Ray's dashboard: http" not in out


@pytest.mark.parametrize(
    "tracking", ["https://mlflow.example.org/team", "http://mlflow2:5000", "http://mlflow.other"]
)
def test_an_mlflow_that_is_elsewhere_is_said_to_be(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], tracking: str
) -> None:
    name = submitted(cluster, tmp_path, tracking)
    cluster.end_after(name, looks=2)
    assert pages.show_pages(cluster, name, 0, opens=False) == 0
    out = capsys.readouterr().out
    assert "MLflow is not in namespace normsweep" in out
    assert f"the job's runs are at {tracking}" in out
    assert "Ctrl-C" not in out


def test_what_is_wrong_is_said_before_any_address(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = submitted(cluster, tmp_path)
    with pytest.raises(UserError, match="No job or sweep 'smok' in namespace normsweep"):
        pages.show_pages(cluster, "smok", 0)
    cluster.rights -= {("get", "pods/portforward")}
    with pytest.raises(Forbidden, match="You may not get pods/portforward"):
        pages.show_pages(cluster, name, 0)
    assert "http://127" not in capsys.readouterr().out


def test_a_port_that_is_taken_is_not_waited_for() -> None:
    with page() as port, forwarded(port, lambda: Connection(port), print) as other:  # type: ignore[arg-type,return-value]
        assert other != port
        assert get(f"http://127.0.0.1:{other}").startswith(str(port).encode())


def test_without_a_cluster_the_exit_code_is_that_of_the_other_verbs(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, _, said = command("ui", "smoke")
    assert (code, said.startswith("No cluster: ")) == (3, True)
    code, _, said = command("ui", "smoke", "--host", "0.0.0.0")
    assert (code, "to this machine alone" in said) == (2, True)


# --- the tunnel itself, through an API that speaks as Kubernetes' does


@contextmanager
def api(refusal: int = 0) -> Iterator[int]:
    """An API that forwards to the pod `here`, whose ports are this machine's; its own port."""
    from aiohttp import WSMsgType, web

    async def forward(request: web.Request) -> web.StreamResponse:
        if refusal:
            return web.json_response({"message": "said no"}, status=refusal)
        port = int(request.query["ports"])
        websocket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await websocket.prepare(request)
        for channel in (0, 1):
            await websocket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            await websocket.send_bytes(b"\1" + f"no port {port}: {error.strerror}".encode())
            return websocket

        async def answers() -> None:
            while content := await reader.read(30_000):
                await websocket.send_bytes(b"\0" + content)
            await websocket.close()

        task = asyncio.create_task(answers())
        async for message in websocket:
            if message.type == WSMsgType.BINARY:
                assert message.data[0] == 0
                writer.write(message.data[1:])
        writer.close()
        await task
        return websocket

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/normsweep/pods/here/portforward", forward)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, shutdown_timeout=1)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def kube(folder: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Kube:
    """The client of an API at this port."""
    names = {"cluster": "c", "user": "u"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": names}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (folder / "config").write_text(json.dumps(config))
    # The library reads KUBECONFIG once, when it is imported.
    known = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(known, str(folder / "config"))
    return clusters.Kube("here", "normsweep")


def test_a_page_comes_through_the_api_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with page() as port, api() as server:
        client = kube(tmp_path, server, monkeypatch)
        with forwarded(0, lambda: client.tunnel("here", port), said.append) as here:
            for _ in range(3):
                assert get(f"http://127.0.0.1:{here}") == str(port).encode() + LONG
    assert said == []


def test_a_port_on_which_nothing_listens_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with api() as server:
        client = kube(tmp_path, server, monkeypatch)
        with (
            forwarded(0, lambda: client.tunnel("here", 1), said.append) as here,
            pytest.raises(OSError),
        ):
            get(f"http://127.0.0.1:{here}")
    assert len(said) == 1 and said[0].startswith("no port 1: ")


def test_what_the_api_refuses_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api(403) as server:
        client = kube(tmp_path, server, monkeypatch)
        with pytest.raises(Forbidden, match=r"You may not get pods/portforward .*said no"):
            client.tunnel("here", 5000)
        with pytest.raises(NotThere):
            client.tunnel("nowhere", 5000)
