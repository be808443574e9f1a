"""Plans mutated sweep files.

    python -m tests.planned COUNT SEED

Plans COUNT mutations of the sweeps that ship, one after another in one process, as the command
`normsweep plan` does. Prints a line of JSON for each: the mutation, the exit code, seconds, peak
memory, and what went wrong.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import typer

from orchestrator import cli
from tests.in_process import WITH_DRIVER
from tests.mutated import mutations


def shipped() -> list[str]:
    """The sweeps that ship, with data sets that every machine has."""
    files = sorted((Path(__file__).parents[1] / "sweeps").glob("*.yaml"))
    return [
        path.read_text().replace("BSDS400", "embedded-train").replace("Set5", "embedded-test")
        for path in files
    ]


def plan_in_process(path: Path, verb: str = "plan", *flags: str) -> dict[str, Any]:
    """Run the command on a file: its exit code (None where it raised), CPU seconds, peak memory in
    bytes, and output.
    """
    assert verb not in WITH_DRIVER
    _command()
    said, code = io.StringIO(), None
    sys.argv = ["normsweep", verb, str(path), "--store", str(path.parent / "none"), *flags]
    _forget_peak()
    began = time.process_time()  # CPU time, since other tests run beside this one
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = cli.main()
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
    seconds = time.process_time() - began
    return {"code": code, "seconds": seconds, "peak": _peak(), "said": said.getvalue()}


@functools.cache
def _command() -> None:
    """Make the parser once. Typer makes it for every call, which takes longer than planning."""
    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Peak memory in bytes."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


def wrong_with(
    outcome: dict[str, Any], most_s: float = 5.0, most_bytes: float = 500e6
) -> str | None:
    """The promise that an outcome breaks, or None."""
    said = str(outcome["said"])
    if outcome["code"] not in (0, 2):
        return f"exit {outcome['code']}: {said[-2_000:]}"
    if "Traceback" in said:
        return f"a traceback: {said[-2_000:]}"
    if outcome["code"] == 2 and not said.strip():
        return "refused without a word"
    if len(said) > 3_000_000:
        return f"{len(said)} characters were printed"
    if outcome["seconds"] > most_s:
        return f"{outcome['seconds']:.1f} s: {said[:300]}"
    return f"{outcome['peak'] / 1e6:.0f} MB: {said[:300]}" if outcome["peak"] > most_bytes else None


def main(count: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="normsweep-mutated-") as folder:
        path = Path(folder, "mutated.yaml")
        for name, content in mutations(shipped(), count, seed):
            path.write_bytes(content)
            outcome = plan_in_process(path)
            wrong = wrong_with(outcome)
            record = {
                "name": name,
                "code": outcome["code"],
                "seconds": outcome["seconds"],
                "peak": outcome["peak"],
            }
            print(json.dumps(record | {"wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
