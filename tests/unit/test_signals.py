"""A signal that comes where Python would swallow its exception, or in an import, still ends us."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys, time, weakref
from orchestrator import signals
from orchestrator.errors import Interrupted

class Target: pass

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def finalizer():
    Finalized()

def callback():
    target = Target()
    kept = weakref.ref(target, lambda _: signal.raise_signal(signal.SIGTERM))
    del target

def importing():
    code = compile("signal.raise_signal(signal.SIGTERM)", "<frozen importlib._bootstrap>", "exec")
    exec(code)
    print("left whole")

def waiting():
    with signals.waited_for():
        finalizer()
        time.sleep(0.5)
    signals.check()

signals.install()
try:
    globals()[sys.argv[1]]()
    print("went on", flush=True)
    time.sleep(60)  # longer than the test waits
except Interrupted as one:
    time.sleep(0.5)  # it is raised once
    sys.exit(one.exit_code)
"""


@pytest.mark.parametrize(
    ("where", "printed"),
    [
        ("finalizer", "went on"),
        ("callback", "went on"),
        ("importing", "left whole\nwent on"),
        ("waiting", ""),
    ],
)
def test_a_signal_ends_us_wherever_it_comes(where: str, printed: str) -> None:
    ended = _run(PROGRAM, where)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, "")
    assert ended.stdout.strip() == printed


def test_whatever_else_is_swallowed_is_printed_as_ever() -> None:
    program = PROGRAM.replace("signal.raise_signal(signal.SIGTERM)", "1 / 0").replace("(60)", "(0)")
    ended = _run(program, "finalizer")
    assert "ZeroDivisionError" in ended.stderr


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
