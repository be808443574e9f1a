"""A real MLflow server for tests, and a proxy before it that is slow, hangs, fails or cuts off."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from tests.ranks import free_port
from tests.s3 import QuietHandler

START_DEADLINE_S = 270
SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def wait_until_it_answers(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        assert server.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server did not answer"
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10).close()
            return
        time.sleep(0.1)


class Server:
    """`mlflow server` over a SQLite database in a folder; started again, it has the same one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words, "--port", str(self.port)],
                cwd=self.folder,
                env={**os.environ, **SETTINGS},
                stdout=log,
                stderr=log,
            )
        wait_until_it_answers(self.port, self._process)

    def processes(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        above = psutil.Process(self._process.pid)
        return [*above.children(recursive=True), above]

    def kill(self) -> None:
        """End it with all its processes, in the middle of whatever they do."""
        for process in self.processes():
            process.kill()
        if self._process is not None:
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """A server, until the block ends."""
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@dataclass(frozen=True)
class Request:
    """What a client asks; `what` is its method and path without the version and names in it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def what(self) -> str:
        """`POST runs/log-batch`, or `PUT artifacts` for any file."""
        path = self.path.partition("?")[0]
        if "/mlflow-artifacts/" in path:
            return f"{self.method} artifacts"
        return f"{self.method} {path.rpartition('/mlflow/')[2]}"

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What a server answers; of `sent` bytes of the body alone, if given, before the end."""

    status: int
    body: bytes
    kind: str = "application/json"
    sent: int | None = None


Forward = Callable[[], Answer]  # asks the server
Fault = Callable[[Request, Forward], Answer | None]  # None: the connection is closed unanswered


def no_fault(request: Request, forward: Forward) -> Answer | None:
    return forward()


@dataclass
class Proxy:
    """Stands before a server at an address of its own, which it keeps when it is closed and opened.

    `fault` decides on every request. `taken` are the requests that the server has carried out, in
    the order in which it did, whether or not the client has heard of it.
    """

    server: Server
    port: int = field(default_factory=free_port)
    fault: Fault = no_fault
    asked: list[Request] = field(default_factory=list)
    taken: list[Request] = field(default_factory=list)
    _listening: ThreadingHTTPServer | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        self._listening = _Listening(("127.0.0.1", self.port), _handler(self))
        threading.Thread(target=self._listening.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """From now on connections are refused."""
        if self._listening is not None:
            self._listening.shutdown()
            self._listening.server_close()
            self._listening = None

    def forward(self, request: Request) -> Answer:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.port)
        try:
            hop = ("host", "connection", "content-length", "transfer-encoding", "accept-encoding")
            headers = {k: v for k, v in request.headers.items() if k.lower() not in hop}
            upstream.request(request.method, request.path, request.body, headers)
            answer = upstream.getresponse()
            body = answer.read()
        finally:
            upstream.close()
        if answer.status < 300:
            self.taken.append(request)
        return Answer(answer.status, body, answer.getheader("Content-Type", "text/plain"))


@contextlib.contextmanager
def proxy_of(server: Server) -> Iterator[Proxy]:
    """A proxy, until the block ends."""
    proxy = Proxy(server)
    proxy.open()
    try:
        yield proxy
    finally:
        proxy.close()


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # some of its threads hang on purpose

    def handle_error(self, *about: object) -> None:
        """Be silent: clients that gave up are what tests make."""


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(QuietHandler):
        protocol_version = "HTTP/1.0"  # each request has a connection, which a fault may cut

        def _answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, dict(self.headers), sent)
            proxy.asked.append(request)
            answer = proxy.fault(request, lambda: proxy.forward(request))
            if answer is None:
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.sent])

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    return Handler
