"""The end of a local Ray cluster leaves the process whole that started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.sweeps import environment

# A thread whose allocations make Python collect cycles, among them references to Ray's objects.
PROGRAM = """
import sys, threading, time
from pathlib import Path
from orchestrator.run.options import RunOptions
from orchestrator.run.ray import ray_cluster
from orchestrator.run.runner import set_environment

class Cycle:
    def __init__(self, held):
        self.itself, self.held = self, held

def drop(cycles):
    while cycles:
        cycles.pop()
        kept = [[] for _ in range(1_000)]
        time.sleep(0.002)

set_environment()
options = RunOptions("runs", "sqlite:///mlflow.db", quiet=True)
with ray_cluster(options, Path(sys.argv[1])):
    import ray
    cycles = [Cycle(ray.put(number)) for number in range(5_000)]
    threading.Thread(target=drop, args=[cycles], daemon=True).start()
assert cycles, "dropped while Ray shut down"
print("went on")
"""


def test_another_thread_may_collect_references_while_ray_shuts_down(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "went on\n"), ended.stderr
