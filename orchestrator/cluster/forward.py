"""A port of this machine whose connections lead to a pod, each through its own tunnel."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.cluster.tunnel import Tunnel
from orchestrator.errors import NormsweepError

HERE = "127.0.0.1"
AT_ONCE_BYTES = 64 * 1024


@contextlib.contextmanager
def forwarded(port: int, reach: Callable[[], Tunnel], say: Callable[[str], None]) -> Iterator[int]:
    """Listen on a port of this machine, or on any free one if that is taken; yield its number.

    `reach` opens the tunnel of a connection. If it raises a NormsweepError, or the pod does not
    answer, the connection is closed and `say` gets the reason.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                tunnel = reach()
            except NormsweepError as error:
                say(str(error))
                return
            _carry(self.request, tunnel, say)

    with _server(port, Handler) as server:
        listening = threading.Thread(target=server.serve_forever, daemon=True)
        listening.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            listening.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64  # a browser opens several connections at once


def _server(port: int, handler: type[socketserver.BaseRequestHandler]) -> _Server:
    try:
        return _Server((HERE, port), handler)
    except OSError:
        return _Server((HERE, 0), handler)


def _carry(client: Any, tunnel: Tunnel, say: Callable[[str], None]) -> None:
    """Carry bytes both ways until either side closes."""

    def back() -> None:
        try:
            while content := tunnel.read():
                client.sendall(content)
        except NormsweepError as error:
            say(str(error))
        except OSError:  # the client has gone
            pass
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # which ends `recv` below

    answers = threading.Thread(target=back, daemon=True)
    answers.start()
    try:
        with contextlib.suppress(OSError):
            while content := client.recv(AT_ONCE_BYTES):
                tunnel.write(content)
    finally:
        tunnel.close()
        answers.join()
