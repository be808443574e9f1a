"""A report on many trials, beside MLflow's client reading as many points from its server.

`python benchmarks/report_scale.py [--seeds 5] [--steps 1000] [--runs 20] [--folder DIR]`: writes a
store of 200 trials per seed with 20 metrics at every step, one trial in 17 diverged, and takes the
time, the CPU time and the peak memory of `normsweep report` on it: all of its processes together.
Then MLflow's client reads the histories of the same metrics of 20 runs, one after the other, from
an MLflow server of this machine over SQLite, which is scaled up to the number of trials.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
from mlflow import MlflowClient
from numpy.typing import NDArray

from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.store import FolderStore, attempts, checkpoints, folder, results
from orchestrator.store.columns import Columns
from orchestrator.store.lines import checked_lines
from orchestrator.store.records import sealed

SWEEP = """\
# Is a report on a thousand trials written in seconds?
sweep: scale
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, rms_norm, i_ln, layer_scale, none]
  task: [sr_x2, sr_x4, denoise_25, jpeg_40]
  width: [12, 24, 36, 48, 60]
  depth: [2, 4]
  seed: {seeds}
data: {{evaluate: [embedded-test]}}
training: {{steps: {steps}, batch_size: 4, patch_size_px: 16}}
observe: {{log_every: 1, probe_every: 1, evaluate_every: 1}}
"""
# As a trial journals them: training, probes and evaluation each in a line.
LINES = (
    ("train/loss", "train/lr", "train/grad_norm"),
    (
        *(f"feature/mean_square/group_{group}" for group in range(4)),
        *(f"feature/max_abs/group_{group}" for group in range(4)),
        *(f"feature/top_channel_share/group_{group}" for group in range(4)),
        "feature/entropy",
        "feature/entropy_normalised",
        "bias_alignment/pearson",
    ),
    ("val/embedded-test/psnr", "val/embedded-test/ssim"),
)
METRICS = tuple(name for line in LINES for name in line)
GROWTH = {"layer_norm": 2.0, "rms_norm": 1.6, "layer_scale": 1.8, "none": 1.2}
START = 1_764_000_000.0
IMAGES = 5  # scored at the end of a trial
EVERY = 17  # one trial in this many diverged


def curves(trial: Trial, steps: int) -> NDArray[np.float64]:
    """Values that look like training: (steps, metrics)."""
    dice = np.random.default_rng(int(trial.id, 16))
    done = np.arange(steps) / max(1, steps - 1)
    noise = dice.normal(1, 0.02, (steps, len(METRICS)))
    growth = done * GROWTH.get(trial.axes["norm"], 0.2) * math.log(trial.axes["width"])
    shape = {
        "train/loss": 0.02 + 0.09 * np.exp(-4 * done),
        "train/lr": np.full(steps, 2e-4),
        "feature/entropy": 4 - done,
        "val/embedded-test/psnr": 24 + 5 * (1 - np.exp(-3 * done)),
    }
    for group in range(4):
        shape[f"feature/mean_square/group_{group}"] = np.exp(growth * (group + 1) / 4)
    return np.stack([shape.get(name, 1 - done / 2) for name in METRICS], axis=1) * noise


def journal(trial: Trial, values: NDArray[np.float64]) -> bytes:
    """The journal of an attempt, as `trainers.journal` writes it."""
    templates, columns = [], []
    for names in LINES:
        fields = ", ".join(f'"{name}": %r' for name in names)
        templates.append(
            '{"seq": %d, "time": %r, "step": %d, "kind": "metrics", "values": {' + fields + "}}\n"
        )
        columns.append([METRICS.index(name) for name in names])
    lines, seq = [], 0
    rows = [values[:, column].tolist() for column in columns]
    for i in range(len(values)):
        for template, row in zip(templates, rows, strict=True):
            lines.append(template % (seq, round(START + 0.01 * seq, 3), i, *row[i]))
            seq += 1
    return "".join(lines).encode()


def write_trial(store: FolderStore, trial: Trial, number: int) -> None:
    """An attempt, a checkpoint, the joined journal with its columns, and the result."""
    steps = trial.spec.training.steps
    diverged = number % EVERY == EVERY - 1
    values = curves(trial, steps + 1)[: steps // 2 if diverged else None]
    content = journal(trial, values)
    seq = content.count(b"\n")
    line = {"seq": seq, "time": START + seq, "step": len(values) - (not diverged)}
    if diverged:
        last = {**line, "kind": "metrics", "values": {"train/loss": "nan"}}
    else:
        images = [{"name": f"{i}.png", "psnr": 28 + i + values[-1, 0]} for i in range(IMAGES)]
        last = {**line, "kind": "event", "event": "scores", "set": "embedded-test"}
        last |= {"compared": "y", "border_px": 2, "images": images}
    content += json.dumps(last).encode() + b"\n"
    record = {"host": "bench-1", "versions": {"torch": "2.13.0"}, "commit": "c0ffee" * 6}
    attempt = attempts.new_attempt(store, trial, record)
    digest = hashlib.sha256(content).hexdigest()
    name = f"{0:010d}-{seq:010d}-{digest[:16]}.jsonl"
    segment = f"trials/{trial.id}/attempts/{attempt}/journal/{name}"
    store.put(segment, content)
    columns = Columns.of(checked_lines(content)).to_bytes(digest)
    store.put(f"{segment.removesuffix('.jsonl')}.columns", columns)
    step, weights = len(values) - (not diverged), b"weights"
    prefix = checkpoints.checkpoint_prefix(trial.id, step, attempt)
    store.put(f"{prefix}/ema.pt", weights)
    files = {"ema.pt": {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}}
    checkpoints.write_manifest(
        store, trial.id, attempt, step=step, world_size=1, zero_stage=0, files=files
    )
    result = {
        "trial": trial.id,
        "sweep": "scale",
        "attempt": attempt,
        "outcome": "diverged" if diverged else "completed",
        "step": step,
        "ended": START + 1e4,
        "metrics": {},
        "checkpoint": {"name": prefix.rpartition("/")[2], "files": files},
        "journal": {segment: digest},
    }
    store.put(results.result_key(trial.id), sealed(result))


def write_store(plan: Plan, path: Path) -> None:
    """The store that the sweep leaves, without waiting for the disk."""
    folder.fsync = lambda path: None
    store = FolderStore(path)
    with multiprocessing.get_context("fork").Pool() as pool:
        work = [(store, trial, number) for number, trial in enumerate(plan.trials)]
        pool.starmap(write_trial, work, chunksize=8)


# --- measuring


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(pid: int) -> int:
    """Bytes of a process and those that it started, shared pages counted in each."""
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            total += process.memory_info().rss
    return total


def report(folder: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of `normsweep report`."""
    command = [sys.executable, "-m", "orchestrator", "report", "scale.yaml", "--store", "runs"]
    root = str(Path(__file__).parents[1])
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    with subprocess.Popen(
        [*command, "--out", "report"], cwd=folder, env={**os.environ, "PYTHONPATH": root}
    ) as process:
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(0.1)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, peak / 2**20


def fill(database: Path, trials: Sequence[Trial]) -> list[str]:
    """Runs with the points of these trials in a new MLflow database; returns their ids.

    The points are written to its table, since logging them through the server takes minutes.
    """
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.create_experiment("scale")
    ids = [client.create_run(experiment).info.run_id for _ in trials]
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for run, trial in zip(ids, trials, strict=True):
            values = curves(trial, trial.spec.training.steps + 1)
            connection.executemany(
                "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)"
                " VALUES (?, ?, ?, ?, ?, 0)",
                [
                    (name, value, int(START * 1000) + step, run, step)
                    for step, row in enumerate(values.tolist())
                    for name, value in zip(METRICS, row, strict=True)
                ],
            )
    return ids


@contextlib.contextmanager
def served(database: Path) -> Iterator[tuple[str, int]]:
    """The address and the process id of an MLflow server."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--host", "127.0.0.1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (
        database.with_suffix(".log").open("wb") as log,
        subprocess.Popen(command, env={**os.environ, **quiet}, stdout=log, stderr=log) as server,
    ):
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}", server.pid
        finally:
            for process in reversed(_tree(server.pid)):
                process.kill()


def read_by_mlflow(folder: Path, trials: Sequence[Trial]) -> tuple[float, float]:
    """Wall and CPU seconds that MLflow's client and server take for a run."""
    database = folder / "mlflow.db"
    database.unlink(missing_ok=True)
    ids = fill(database, trials)
    with served(database) as (address, server):
        client = MlflowClient(address)
        client.get_metric_history(ids[0], METRICS[0])  # connects
        before, began = _cpu(server), time.perf_counter()
        for run in ids:
            for name in METRICS:
                found = client.get_metric_history(run, name)
                assert len(found) == trials[0].spec.training.steps + 1
        wall = time.perf_counter() - began
        return wall / len(ids), (_cpu(server) - before) / len(ids)


def _cpu(server: int) -> float:
    """CPU seconds of this process and of the server's so far."""
    return sum(sum(process.cpu_times()[:2]) for process in (psutil.Process(), *_tree(server)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="200 trials each (default 5)")
    parser.add_argument("--steps", type=int, default=1_000, help="default 1000")
    parser.add_argument("--runs", type=int, default=20, help="of MLflow that are read (default 20)")
    parser.add_argument("--folder", type=Path, help="keeps the store, or has it from another time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        folder = options.folder or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "scale.yaml"
        file.write_text(SWEEP.format(seeds=list(range(options.seeds)), steps=options.steps - 1))
        plan = load_plan(file)
        if not (folder / "runs").exists():
            write_store(plan, folder / "runs")
        count = len(plan.trials)
        print(f"{count} trials x {options.steps} steps x {len(METRICS)} metrics", flush=True)
        wall, cpu, peak = report(folder)
        print(
            f"normsweep report:          {wall:8.1f} s wall, {cpu:8.1f} s of CPU, {peak:6.0f} MiB",
            flush=True,
        )
        if not options.runs:
            return 0
        each, each_cpu = read_by_mlflow(folder, plan.trials[: options.runs])
        print(
            f"MLflow's client and server: {each * count:7.1f} s wall, {each_cpu * count:8.1f} s of"
            f" CPU, to read the points alone ({each:.2f} s for each of {options.runs} runs,"
            f" times {count})\nratio: {each * count / wall:.1f} of wall time,"
            f" {each_cpu * count / cpu:.1f} of CPU time"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
