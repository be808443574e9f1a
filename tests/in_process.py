"""Runs the command `normsweep` in this process: milliseconds instead of a start of Python."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator import cli

# They end every process below their own, which would be the S3 server of a test, and block signals.
WITH_DRIVER = frozenset({"run", "evaluate", "regress"})


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Gives the exit code of a command, and what it printed to stdout and to stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        assert arguments[0] not in WITH_DRIVER
        monkeypatch.setattr("sys.argv", ["normsweep", *map(str, arguments)])
        code = cli.main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
