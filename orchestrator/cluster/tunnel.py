"""A connection to a port of a pod, through the Kubernetes API: `portforward` over a WebSocket."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import EnvironmentProblem


class Tunnel:
    """A connection to a port of a pod. One thread may read while another one writes.

    Messages begin with the number of a channel, and the first one of each channel is the port's
    number.
    """

    DATA, ERROR = 0, 1

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket
        self._begun: set[int] = set()

    def write(self, content: bytes) -> None:
        """Raises OSError once the connection is closed."""
        from websocket import WebSocketException

        try:
            self._websocket.send_binary(bytes([self.DATA]) + content)
        except WebSocketException as error:
            raise OSError(str(error)) from error

    def read(self) -> bytes:
        """The bytes that come next; none at the end.

        Raises EnvironmentProblem if the port cannot be reached, e.g. as nothing listens there.
        """
        from websocket import ABNF, WebSocketException

        while True:
            try:
                kind, message = self._websocket.recv_data()
            except (WebSocketException, OSError, ValueError):  # ValueError: of a closed TLS socket
                return b""
            if kind != ABNF.OPCODE_BINARY or not message:
                return b""
            channel, content = message[0], bytes(message[1:])
            if channel not in self._begun:
                self._begun.add(channel)
            elif channel == self.ERROR:
                raise EnvironmentProblem(content.decode(errors="replace").strip())
            elif content:
                return content

    def close(self) -> None:
        """Close it at once, and end a `read` that waits."""
        self._websocket.abort()
        self._websocket.shutdown()
