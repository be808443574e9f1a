"""A real S3 server for tests, and a proxy before it that counts requests and falsifies answers."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from orchestrator import objects
from tests.ranks import free_port

SERVICES = Path(
    os.environ.get("NORMSWEEP_SERVICES") or Path(__file__).parents[2] / "shared" / "services"
)
ACCESS, SECRET = "test", "testtesttest"


@contextlib.contextmanager
def service(
    name: str, *arguments: str, port: int, host: str = "127.0.0.1", **environment: str
) -> Iterator[None]:
    """A server from the folder of test services, until the block ends. Skips if there is none."""
    if not (SERVICES / "run").exists() or shutil.which("zstd") is None:
        pytest.skip(f"no {name} in {SERVICES} (or no zstd): set NORMSWEEP_SERVICES")
    process = subprocess.Popen(
        [str(SERVICES / "run"), name, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
                break
            assert process.poll() is None, f"{name} ended"
            assert time.monotonic() < until, f"{name} does not listen"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Wrong:
    """An answer instead of the server's."""

    status: int
    body: bytes

    @staticmethod
    def error(status: int, code: str) -> Wrong:
        return Wrong(
            status, f"<Error><Code>{code}</Code><Message>a test's</Message></Error>".encode()
        )


@dataclass
class Bucket:
    """A bucket and the proxy before it.

    `fault(method, key, headers, body)` may replace the server's answer. `before(method, key,
    headers)` is called before the server is asked.
    """

    name: str
    client: Any
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    fault: Callable[[str, str, dict[str, str], bytes], Wrong | bytes | None] = lambda *about: None

    before: Callable[[str, str, dict[str, str]], None] = lambda *about: None

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    def listed(self) -> list[str]:
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", ())
        return sorted(item["Key"] for item in listed)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def gets(self) -> dict[str, int]:
        """The number of times each object was read."""
        return {
            key: count for (method, key), count in self.requests.items() if method == "GET" and key
        }


class QuietHandler(BaseHTTPRequestHandler):
    """Logs no requests."""

    def log_message(self, *about: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *about: object) -> None:
        """Be silent: tests kill clients and end servers, and look at what comes of it."""


def _proxy(bucket: Bucket, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            key = path.removeprefix(f"/{bucket.name}").strip("/")
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            bucket.requests[self.command, key] += 1
            bucket.before(self.command, key, dict(self.headers))
            upstream = http.client.HTTPConnection("127.0.0.1", port)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(sent)
            answer = upstream.getresponse()
            body = answer.read()
            instead = bucket.fault(self.command, key, dict(self.headers), body)
            status, body = (
                (instead.status, instead.body)
                if isinstance(instead, Wrong)
                else (answer.status, instead or body)
            )
            self.send_response(status)
            for name, value in () if isinstance(instead, Wrong) else answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "date", "server") and (
                    name.lower() != "content-length" or self.command == "HEAD"
                ):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            upstream.close()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer  # noqa: N815

    return Handler


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port on which a real S3 server listens."""
    port = free_port()
    folder = tmp_path_factory.mktemp("s3")
    arguments = ("--port", f"127.0.0.1:{port}", "posix", str(folder))
    with service(
        "versitygw", *arguments, port=port, ROOT_ACCESS_KEY=ACCESS, ROOT_SECRET_KEY=SECRET
    ):
        yield port


@pytest.fixture
def bucket(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket for this test alone. This process and those it starts reach S3 through the proxy."""
    use_s3(monkeypatch, s3_port)
    client = boto3.client("s3")
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    made = Bucket(name, client)
    server = _Server(("127.0.0.1", 0), _proxy(made, s3_port))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_s3(monkeypatch, server.server_address[1])
    yield made
    server.shutdown()
    server.server_close()
    objects.forget()


def use_s3(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    objects.forget()
