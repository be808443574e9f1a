"""Planning a grid of 100,000 trials, and the status of a sweep of 10,000 in its store.

`python benchmarks/large_plan.py [--cells 100000] [--trials 10000] [--folder DIR]`: takes the CPU
time, the wall time and the peak memory of `normsweep plan` on a sweep of that many trials without a
store, of `normsweep status` on a store of that many trials in which all have ended, and of a full
look at each of 100 of them, which `status` took at every trial before it had a census. CPU time is
what to compare on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.report_scale import write_trial
from orchestrator.plan import Plan, load_plan
from orchestrator.store import FolderStore, folder
from orchestrator.store.trials import looks_at

SWEEP = """\
# Is a sweep of very many trials planned in seconds?
sweep: large
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, rms_norm, bias_free_layer_norm, layer_scale, rezero, none, i_ln, batch_norm]
  task: [sr_x2, sr_x4, denoise_25, denoise_50, jpeg_40]
  width: [12, 24, 36, 48, 60]
  depth: [1, 2, 3, 4, 6]
  lr: [1.0e-4, 2.0e-4, 4.0e-4, 8.0e-4, 1.0e-3]
  seed: {seeds}
training: {{steps: 20, batch_size: 4, patch_size_px: 16}}
"""
OF_A_SEED = 8 * 5 * 5 * 5 * 5
LOOKED_AT = 100


def write_sweep(path: Path, trials: int) -> Path:
    """A sweep of this many trials, rounded up to whole seeds."""
    seeds = list(range(-(-trials // OF_A_SEED)))
    path.write_text(SWEEP.format(seeds=seeds))
    return path


def command(*words: str) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak megabytes of a command of normsweep."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "orchestrator", *words], check=True, stdout=subprocess.DEVNULL
    )
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, after.ru_maxrss / 1e3


def write_store(plan: Plan, path: Path) -> None:
    """A store in which every trial of the plan has ended, without waiting for the disk."""
    folder.fsync = lambda path: None
    store = FolderStore(path)
    for number, trial in enumerate(plan.trials):
        short = trial.spec.training.model_copy(update={"steps": 3})
        spec = trial.spec.model_copy(update={"training": short})
        write_trial(store, replace(trial, spec=spec), number)


def main(cells: int, trials: int, where: Path) -> None:
    large = write_sweep(where / "large.yaml", cells)
    words = ("plan", str(large), "--store", str(where / "none"))
    cpu, wall, memory = command(*words)
    number = -(-cells // OF_A_SEED) * OF_A_SEED
    print(f"plan of {number:,} trials: {cpu:.1f} s of CPU, {wall:.1f} s, {memory:.0f} MB")
    some = write_sweep(where / "some.yaml", trials)
    plan, store = load_plan(some), where / "runs"
    write_store(plan, store)
    cpu, wall, memory = command("status", str(some), "--store", str(store))
    number = len(plan.trials)
    print(f"status of {number:,} ended trials: {cpu:.1f} s of CPU, {wall:.1f} s, {memory:.0f} MB")
    began = time.process_time()
    looks_at(FolderStore(store), [trial.id for trial in plan.trials[:LOOKED_AT]])
    each = (time.process_time() - began) / LOOKED_AT
    print(f"a full look at a trial: {1e3 * each:.1f} ms of CPU, {each * number:.0f} s for all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as made:
        main(given.cells, given.trials, given.folder or Path(made))
