"""`normsweep ui`: print and run the `mlflow server` that shows this project's runs."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.loopback import is_loopback
from orchestrator.tracking import is_mlflow, shown
from orchestrator.tracking.address import Address, parse
from orchestrator.tracking.sqlite import ARTIFACTS, bring_home

STOP_DEADLINE_S = 10.0
# What `mlflow server` allows by itself; naming hosts replaces its list (mlflow 3.5 and later).
PRIVATE_HOSTS = ("10.*", "192.168.*", *(f"172.{i}.*" for i in range(16, 32)))


def run_ui(tracking_uri: str, host: str, port: int) -> int:
    """Serve until interrupted. UserError if there is nothing to show, EnvironmentProblem if the port is taken."""
    if not is_mlflow(tracking_uri):
        raise UserError(
            f"--tracking {shown(tracking_uri)}: only MLflow has pages: sqlite:///PATH or http://SERVER."
        )
    address = parse(tracking_uri)
    if address.is_server:
        print(f"The runs are served already: open {address.shown}", flush=True)
        return 0
    command = server_command(address, host, port)
    _check_port(host, port)
    if address.database is not None:
        with contextlib.suppress(sqlite3.Error):  # that cannot be written can still be shown
            bring_home(address.database)
    print(shlex.join(command), flush=True)
    print(f"Open http://{_shown(host)}:{port}  (Ctrl-C ends it)", flush=True)
    if not is_loopback(host):
        print(
            "Anyone who reaches this address can read and change the runs: the server asks for no password.",
            flush=True,
        )
    return _serve(command)


def server_command(address: Address, host: str, port: int) -> list[str]:
    """The command for a local database: absolute addresses, artifacts beside the database, one worker."""
    database = address.database
    if database is None:
        raise UserError(
            f"--tracking {address.shown} is not served from here: `mlflow server` does, and its address can be opened. "
            "Give that, or sqlite:///PATH."
        )
    if not database.is_file():
        raise UserError(
            f"There is no tracking database {database}. "
            "`normsweep run FILE` makes it, `normsweep sync FILE` fills it from the store."
        )
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", address.uri]
    command += ["--artifacts-destination", str(database.parent / ARTIFACTS)]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    if not is_loopback(host):
        names = ("localhost", "127.0.0.1", "[[]::1]", socket.gethostname(), socket.getfqdn())
        own = dict.fromkeys(name for name in (*names, host) if name not in ("0.0.0.0", "::"))  # noqa: S104 (left out)
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
            f"--host {host} is no address of this machine: {error.strerror}."
        ) from error
    except PermissionError as error:
        raise EnvironmentProblem(
            f"Port {port} needs more rights than you have. Take one above 1023: --port 5000"
        ) from error
    except OSError as error:
        try:
            free = _bind(family, host, 0)
        except OSError:
            raise UserError(
                f"--host {host} is no address of this machine: {error.strerror}."
            ) from error
        raise EnvironmentProblem(
            f"Port {port} on {host} is in use. This one is free: --port {free}"
        ) from error


def _bind(family: int, host: str, port: int) -> int:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are only closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        bound: int = probe.getsockname()[1]
        return bound


def _serve(command: list[str]) -> int:
    """Run the server and all it starts as one process group, and end all of it with us."""
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    environment.setdefault(
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"
    )  # seven processes for what nobody here asks of it
    with (
        _signals_interrupt() as interrupt,
        subprocess.Popen(command, env=environment, start_new_session=True) as server,
    ):
        try:
            interrupt.let_go()
            code = server.wait()
        except KeyboardInterrupt:
            _end(server)
            return 0
    raise EnvironmentProblem(
        f"The server ended by itself with exit code {code}; what it said stands above."
    )


def _end(server: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_DEADLINE_S)


class _Interrupt:
    """A handler of signals that raises KeyboardInterrupt, once it is let go: a signal in the midst of starting waits till then."""

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
def _signals_interrupt() -> Iterator[_Interrupt]:
    """SIGTERM as Ctrl-C, and Ctrl-C also where a shell's `&` or nohup has had it ignored."""
    interrupt = _Interrupt()
    before = {sign: signal.signal(sign, interrupt) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
