"""The time that light commands take beside importing Ray: medians of whole processes, in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 5
COMMANDS = {
    "normsweep --help": [sys.executable, "-m", "orchestrator", "--help"],
    "normsweep plan sweeps/quickstart.yaml": [
        sys.executable,
        "-m",
        "orchestrator",
        "plan",
        "sweeps/quickstart.yaml",
    ],
    "python -c 'import ray'": [sys.executable, "-c", "import ray"],
}


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS + 1):  # the first run warms the file cache
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(runs[1:]) for name, runs in times.items()}
    ray = medians["python -c 'import ray'"]
    for name, median in medians.items():
        print(f"{name:40s} {median:6.2f} s   {median / ray:5.2f} x import ray")


if __name__ == "__main__":
    main()
