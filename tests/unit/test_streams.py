"""Output that nobody reads, or that cannot be written, ends nothing and gives no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.sweeps import environment

PRINTS = """
import sys
from orchestrator import streams
streams.guard()
for _ in range({lines}):
    print("\\u2026 {word}")
with open("{file}", "w") as file:
    file.write("worked")
print("said", file=sys.stderr)
if (lost := streams.lost_output()) is not None:
    print(lost, file=sys.stderr)
    sys.exit(3)
"""


@pytest.fixture
def prints(tmp_path):
    """Runs a program in place of `{}` in a line of shell: exit code, stdout, stderr."""

    def run(shell: str, lines: int = 20_000, **more: str) -> tuple[int, str, str]:
        program = tmp_path / "prints.py"
        program.write_text(PRINTS.format(lines=lines, word="x" * 80, file=tmp_path / "worked"))
        line = shell.format(f"{sys.executable} {program}")
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            env={**environment(), **more},
            capture_output=True,
            timeout=60,
        )
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr
        assert (tmp_path / "worked").read_text() == "worked", (
            "its work is done, and written to a file"
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


def test_a_reader_that_has_enough_is_not_an_error(prints) -> None:
    code, out, err = prints("{} | head -1")
    assert (code, len(out.splitlines()), err) == (0, 1, "said\n")


def test_a_full_disk_is_a_sentence_and_exit_code_3(prints) -> None:
    code, _, err = prints("{} > /dev/full", lines=1)
    assert (code, err) == (3, "said\nThe output could not be written: No space left on device.\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_are_no_error(prints, closed: str) -> None:
    assert prints("{} " + closed, lines=1)[0] == 0


def test_a_stream_that_lacks_a_character_gets_an_escape(prints) -> None:
    code, out, _ = prints("{}", lines=1, PYTHONIOENCODING="ascii")
    assert (code, out[:8]) == (0, "\\u2026 x")
