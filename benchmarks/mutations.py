"""Puts 10,000 mutated sweep files through `normsweep plan`: exit codes, tracebacks, the longest
time and the largest memory.

    python benchmarks/mutations.py [COUNT [SEED]]

Exits with 1 if a promise is broken: only exit codes 0 and 2, no traceback, never over 5 s of CPU or
500 MB. Each core has its own process, limited in memory. A process that crashes or hangs is named
by its last mutation.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PART = 500  # mutations per process
DEADLINE_S = 900.0
MOST_BYTES = 4 << 30  # of address space, of which only a part is ever in memory


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


def part(count: int, seed: int) -> list[dict[str, Any]]:
    """The outcome of each of `count` mutations, and one more if their process did not end well."""
    command = [sys.executable, "-m", "tests.planned", str(count), str(seed)]
    try:
        ran = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, preexec_fn=_limit
        )
        output, ended = ran.stdout, f"exit {ran.returncode}: {ran.stderr[-1_000:]}"
        is_whole = ran.returncode == 0
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        ended, is_whole = f"no end after {DEADLINE_S:.0f} s", False
    outcomes = [json.loads(line) for line in output.splitlines() if line.endswith("}")]
    if not is_whole:
        outcomes.append(
            {
                "name": f"{seed}.{len(outcomes)}",
                "code": None,
                "seconds": 0.0,
                "peak": 0,
                "wrong": ended,
            }
        )
    return outcomes


def main(count: int = 10_000, seed: int = 1) -> int:
    parts = [min(PART, count - begun) for begun in range(0, count, PART)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = [
            o for found in pool.map(part, parts, range(seed, seed + len(parts))) for o in found
        ]
    codes = Counter(outcome["code"] for outcome in outcomes)
    wrong = [outcome for outcome in outcomes if outcome["wrong"]]
    print(
        f"{len(outcomes)} mutations: "
        + ", ".join(f"{n} with exit code {code}" for code, n in codes.most_common())
    )
    slowest, largest = (
        max(outcomes, key=lambda o: o["seconds"]),
        max(outcomes, key=lambda o: o["peak"]),
    )
    print(f"longest: {slowest['seconds']:.1f} s of CPU ({slowest['name']})")
    print(f"largest: {largest['peak'] / 1e6:.0f} MB ({largest['name']})")
    print(f"broken promises: {len(wrong)}")
    for outcome in wrong[:20]:
        print(f"  {outcome['name']}: {outcome['wrong']}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
