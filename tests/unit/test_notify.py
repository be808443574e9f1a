"""Notifications reach a real server, are repeated until it takes them, and show no address."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.plan.gate import Gate
from orchestrator.regression import notify
from orchestrator.regression.notify import is_due
from orchestrator.regression.options import VARIABLE, addresses
from orchestrator.store import open_store
from tests.nights import judged, keep, night
from trainers.choice import Choice

GATE = Gate(baseline=Choice(name="layer_norm"))
PASSED = night("2026-11-28", judged())
FAILED = night("2026-11-29", judged("i_ln", "fail", value=-0.3))
SECRET = "s3cret-token"


class Server:
    """Takes notifications on loopback, after refusing the first `refused` ones."""

    def __init__(self, refused: int = 0) -> None:
        self.got: list[dict[str, str]] = []
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked += 1
                is_taken = outer.asked > refused
                if is_taken:
                    outer.got.append(json.loads(content))
                self.send_response(200 if is_taken else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://user:{SECRET}@127.0.0.1:{self.server.server_port}/{SECRET}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(notify, "WAIT_S", 0.0)
    one = Server(refused=2)
    yield one
    one.server.shutdown()
    one.server.server_close()


def test_a_notification_is_sent_again_until_it_is_taken_and_once_a_night(
    server: Server, tmp_path: Path
) -> None:
    keep(open_store(str(tmp_path)), PASSED, FAILED)
    to = (server.address,)
    assert notify.notify(str(tmp_path), GATE, FAILED, PASSED, "the/page.html", to) == []
    (message,) = server.got
    assert server.asked == 3
    assert message["title"] == "nightly 2026-11-29: fail, was pass on 2026-11-28"
    assert "-0.300 dB" in message["message"]
    assert "Page: the/page.html" in message["message"]
    assert notify.notify(str(tmp_path), GATE, FAILED, PASSED, "the/page.html", to) == []
    assert len(server.got) == 1, "the night, run again, notifies nobody a second time"


def test_what_fails_is_said_without_an_address_and_sent_by_the_next_run(
    server: Server,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    dead = f"json://user:{SECRET}@127.0.0.1:9/{SECRET}"
    with caplog.at_level(logging.DEBUG):
        problems = notify.notify(
            str(tmp_path), GATE, FAILED, PASSED, "", (dead, f"nowhere {SECRET}", server.address)
        )
    assert [problem.split(" in ")[0] for problem in problems[:2]] == [
        "Address 1 of 3",
        "Address 2 of 3",
    ]
    assert "(json://) has not taken the notification" in problems[0]
    assert "is not one that apprise knows" in problems[1]
    assert "--date 2026-11-29` sends it again" in problems[2]
    said = "".join((*problems, *capfd.readouterr(), caplog.text))
    assert SECRET not in said
    assert len(server.got) == 1, "the other address has been notified"
    assert notify.notify(str(tmp_path), GATE, FAILED, PASSED, "", (server.address,)) == []
    assert len(server.got) == 2


@pytest.mark.parametrize(
    ("when", "due"),
    [("change", (True, True, False)), ("always", (True,) * 3), ("never", (False,) * 3)],
)
def test_people_are_told_of_a_change_of_verdict_by_default(
    when: str, due: tuple[bool, bool, bool]
) -> None:
    gate = GATE.model_copy(update={"notify": when})
    again = night("2026-11-30", judged("i_ln", "fail", value=-0.3))
    assert (
        is_due(gate, PASSED, None),
        is_due(gate, FAILED, PASSED),
        is_due(gate, again, FAILED),
    ) == due


def test_another_norm_that_fails_is_a_change() -> None:
    other = night("2026-11-30", judged(), judged("rms_norm", "fail", value=-0.3))
    assert is_due(GATE, other, FAILED)


def test_addresses_are_split_at_commas_and_lines_and_leave_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os

    given = "mailto://a:b@host?to=x@y,z@y, json://host/path\n slack://T/B/C\n\n"
    monkeypatch.setenv(VARIABLE, given)
    assert addresses() == ("mailto://a:b@host?to=x@y,z@y", "json://host/path", "slack://T/B/C")
    assert VARIABLE not in os.environ, "processes that train do not inherit it"
    assert addresses() == ()
