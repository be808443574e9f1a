"""`normsweep ui`: run the `mlflow server` that shows this project's runs, and open their page."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator, Mapping
from types import FrameType

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.hints import hint
from orchestrator.loopback import is_loopback
from orchestrator.tracking import is_mlflow, shown
from orchestrator.tracking.address import Address, parse
from orchestrator.tracking.health import why_away
from orchestrator.tracking.pages import links
from orchestrator.tracking.sqlite import ARTIFACTS, bring_home

STOP_DEADLINE_S = 10.0
ANSWER_DEADLINE_S, ASK_EVERY_S = 120.0, 0.5
MOST_OTHERS = 9  # links beside the first
# The hosts that `mlflow server` allows by default; naming any replaces its list (mlflow 3.5 on).
PRIVATE_HOSTS = ("10.*", "192.168.*", *(f"172.{i}.*" for i in range(16, 32)))


def run_ui(tracking_uri: str, host: str, port: int, *, opens: bool = True) -> int:
    """Serve until interrupted; returns the exit code.

    With `opens`, the page of the sweep last touched is opened in a browser, if this is a terminal
    on a desktop. Raises UserError if there is nothing to show, EnvironmentProblem if the port is
    taken.
    """
    if not is_mlflow(tracking_uri):
        raise UserError(
            f"--tracking {shown(tracking_uri)}: only MLflow has pages. "
            "Give sqlite:///PATH or http://SERVER."
        )
    address = parse(tracking_uri)
    opens = opens and is_desktop()
    if address.is_server:
        pages = links(address, address.shown)
        first = _first(pages, address.shown)
        print(f"The runs are already served: open {first}", flush=True)
        _print_others(pages)
        if opens:
            webbrowser.open(first)
        return 0
    command = server_command(address, host, port)
    _check_port(host, port)
    if address.database is not None:
        with contextlib.suppress(sqlite3.Error):  # a database that is read-only can still be shown
            bring_home(address.database)
    server = f"http://{_shown(host)}:{port}"
    pages = links(address, server)
    print(shlex.join(command), flush=True)
    print(f"Open {_first(pages, server)}  (Ctrl-C ends it)", flush=True)
    _print_others(pages)
    if not is_loopback(host):
        print(
            "Anyone who can reach this address can read and change the runs: "
            "the server asks for no password.",
            flush=True,
        )
    if opens:
        arguments = (server, _first(pages, server))
        threading.Thread(target=_open_once_it_answers, args=arguments, daemon=True).start()
    return _serve(command)


def _first(pages: Mapping[str, str], server: str) -> str:
    return next(iter(pages.values()), server)


def _print_others(pages: Mapping[str, str]) -> None:
    for name, link in list(pages.items())[1 : 1 + MOST_OTHERS]:
        print(f"     {link}  ({name})", flush=True)


def is_desktop() -> bool:
    """Whether a browser would open beside this terminal, and not inside it as `lynx` does."""
    if not sys.stdout.isatty():
        return False
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _open_once_it_answers(server: str, page: str) -> None:
    until = time.monotonic() + ANSWER_DEADLINE_S
    while time.monotonic() < until:
        if why_away(server) is None:
            webbrowser.open(page)
            return
        time.sleep(ASK_EVERY_S)


def server_command(address: Address, host: str, port: int) -> list[str]:
    """The command for a local database, with its artifacts beside it and one worker process.

    Raises UserError if the address is not that of a database, or the database does not exist.
    """
    database = address.database
    if database is None:
        raise UserError(
            f"--tracking {address.shown}: cannot be served from here. "
            "Run `mlflow server` and give its address, or give sqlite:///PATH."
        )
    if not database.is_file():
        raise UserError(
            f"There is no tracking database {database}. "
            f"`{hint('run FILE')}` creates it, `{hint('sync FILE')}` fills it from the store."
        )
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", address.uri]
    command += ["--artifacts-destination", str(database.parent / ARTIFACTS)]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    if not is_loopback(host):
        names = ("localhost", "127.0.0.1", "[[]::1]", socket.gethostname(), socket.getfqdn())
        # An address that means every interface is not a name by which a browser asks.
        everywhere = ("0.0.0.0", "::")  # noqa: S104 (left out)
        own = dict.fromkeys(name for name in (*names, host) if name not in everywhere)
        command += [
            "--allowed-hosts",
            ",".join([*own, *(f"{name}:*" for name in own), *PRIVATE_HOSTS]),
        ]
    return command


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        _bind(family, host, port)
    except socket.gaierror as error:
        raise UserError(
            f"--host {host} is not an address of this machine: {error.strerror}."
        ) from error
    except PermissionError as error:
        raise EnvironmentProblem(
            f"You may not open port {port}. Choose one above 1023: --port 5000"
        ) from error
    except OSError as error:
        try:
            free = _bind(family, host, 0)
        except OSError:
            # No port can be opened on that host at all, so the host is at fault.
            raise UserError(
                f"--host {host} is not an address of this machine: {error.strerror}."
            ) from error
        raise EnvironmentProblem(
            f"Port {port} on {host} is in use. Another one is free: --port {free}"
        ) from error


def _bind(family: int, host: str, port: int) -> int:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port counts as free while its last connections are closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        bound: int = probe.getsockname()[1]
        return bound


def _serve(command: list[str]) -> int:
    """Run the server and all it starts as one process group, which ends when we do."""
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    # It would start seven processes for jobs that nobody here submits.
    environment.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    with (
        signals_interrupt() as interrupt,
        subprocess.Popen(command, env=environment, start_new_session=True) as server,
    ):
        try:
            interrupt.let_go()
            code = server.wait()
        except KeyboardInterrupt:
            _end(server)
            return 0
    raise EnvironmentProblem(
        f"The server ended by itself with exit code {code}; its output is above."
    )


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server's process group, by SIGKILL what SIGTERM has not ended."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_DEADLINE_S)


class _Interrupt:
    """A signal handler that raises KeyboardInterrupt, but not before it is let go.

    A signal that arrives while the server is being started takes effect when it is let go.
    """

    def __init__(self) -> None:
        self._is_held = True
        self._is_due = False

    def __call__(self, sign: int, frame: FrameType | None) -> None:
        self._is_due = True
        if not self._is_held:
            raise KeyboardInterrupt

    def let_go(self) -> None:
        self._is_held = False
        if self._is_due:
            raise KeyboardInterrupt


@contextlib.contextmanager
def signals_interrupt() -> Iterator[_Interrupt]:
    """Treat SIGTERM like Ctrl-C, and heed Ctrl-C even where a shell's `&` or nohup ignored it."""
    interrupt = _Interrupt()
    before = {sign: signal.signal(sign, interrupt) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
