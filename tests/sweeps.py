"""Runs the command `normsweep` on sweeps that train in seconds, and looks at what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from orchestrator.errors import UserError
from orchestrator.plan import Plan, load_plan
from trainers import own

SWEEP = """\
# Does this test hold?
sweep: {name}
axes:
  backbone: [{{name: swinir-tiny, embed_dim: 8, window_size: 4}}]
  norm: [{norms}]
  task: [{tasks}]
data: {{evaluate: []}}
training: {{steps: {steps}, batch_size: 4, patch_size_px: 8, lr: 1.0e-3, ema_decay: 0.9}}
observe: {{log_every: 1, probe_every: 20, probe_patches: 2, checkpoint_every: {checkpoint_every}}}
resources: {{device: cpu, workers: {workers}}}
"""


GRID = """\
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, i_ln]
  task: [sr_x2]
"""
VALUES = {"name": "chaos", "norms": "i_ln", "tasks": "sr_x2", "steps": 10, "workers": 1}


def write_sweep(folder: Path, **values: str | int) -> Path:
    """Write a sweep file of tiny trials in `folder`, with these values in place of SWEEP's own."""
    folder.mkdir(parents=True, exist_ok=True)
    of_sweep = VALUES | {"checkpoint_every": 20} | values
    path = folder / f"{of_sweep['name']}.yaml"
    path.write_text(SWEEP.format(**of_sweep))
    return path


def comparing(*, question: str = "Does it hold?", training: str = "", **axes: str) -> str:
    """A sweep file that compares norms on a tiny network, with these values of axes."""
    values = {"backbone": "swinir-tiny", "norm": "layer_norm, i_ln", "task": "sr_x2"} | axes
    lines = [f"# {question}", "axes:", *(f"  {axis}: [{values[axis]}]" for axis in values)]
    lines.append("data: {evaluate: [embedded-test]}")
    if training:
        lines.append(f"training: {{{training}}}")
    return "\n".join(lines) + "\n"


def plan_of(folder: Path, text: str, name: str = "a_sweep") -> Plan:
    """The plan of a sweep file with this text."""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return load_plan(path)


def said_of(folder: Path, text: str | bytes) -> str:
    """What planning says of a file that it refuses, which it names `bad.yaml`."""
    path = folder / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        load_plan(path)
    return str(caught.value).replace(str(path), "bad.yaml")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *map(str, arguments)]


def environment() -> dict[str, str]:
    """A command's environment: ours, without the folders of norms that planning here has added."""
    ours = {name: value for name, value in os.environ.items() if name != own.FOLDERS}
    return {**ours, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def normsweep(
    folder: Path, *arguments: object, expect: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` to its end. Its exit code must be `expect`."""
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def start(file: Path, *flags: object) -> subprocess.Popen[str]:
    """Start `normsweep run FILE` in the file's folder, where its store is as well."""
    return subprocess.Popen(
        command("run", file, *flags),
        cwd=file.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(file: Path, *flags: object, expect: int = 0) -> str:
    """Run `normsweep run FILE` to its end, and return what it printed."""
    process = start(file, *flags)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == expect, output
    return output


def trained(folder: Path, **settings: Any) -> Path:
    """Write a sweep in `folder` and run it to its end; returns the folder."""
    run(write_sweep(folder, **settings))
    return folder


def wait_for(
    condition: Callable[[], object], process: subprocess.Popen[str], deadline_s: float = 120.0
) -> None:
    until = time.monotonic() + deadline_s
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"ended before the condition came: {process.communicate()[0]}")
        assert time.monotonic() < until, "the condition did not come"
        time.sleep(0.02)


def sealed_checkpoints(folder: Path) -> list[Path]:
    return list((folder / "runs" / "trials").glob("*/checkpoints/step-*/manifest.json"))


def ranks(folder: Path) -> list[psutil.Process]:
    """The processes of ranks that train for the store in `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "trainers" in line and any(part.startswith(str(folder)) for part in line):
            found.append(process)
    return found


def results(folder: Path) -> dict[str, dict]:
    """The content of result.json, by trial id."""
    return {
        path.parent.name: json.loads(path.read_text())
        for path in (folder / "runs/trials").glob("*/result.json")
    }


def final_tensors(folder: Path, trial_id: str) -> dict[str, torch.Tensor]:
    """Weights and EMA of the final checkpoint, by file and name."""
    name = results(folder)[trial_id]["checkpoint"]["name"]
    checkpoint = folder / "runs/trials" / trial_id / "checkpoints" / name
    files = {
        file: torch.load(checkpoint / file, weights_only=True) for file in ("weights.pt", "ema.pt")
    }
    return {
        f"{file}/{key}": value for file, tensors in files.items() for key, value in tensors.items()
    }


def assert_same_bits(one: Path, other: Path) -> None:
    """Every trial of both stores ended with the same weights, but for those that `keep` removed."""
    assert results(one).keys() == results(other).keys()
    freed = [
        {path.parent.name for path in f.glob("runs/trials/*/freed.json")} for f in (one, other)
    ]
    assert freed[0] == freed[1]
    for trial_id in results(one).keys() - freed[0]:
        a, b = final_tensors(one, trial_id), final_tensors(other, trial_id)
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]), f"{trial_id}: {key}"


def tracked_points(folder: Path, experiment: str) -> dict[str, Counter[tuple[str, int]]]:
    """How often MLflow has each (metric, step), by trial id."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    points = {}
    for tracked in client.search_runs([found.experiment_id]):
        if "normsweep.trial" not in tracked.data.tags:
            continue
        history = [
            m
            for name in tracked.data.metrics
            for m in client.get_metric_history(tracked.info.run_id, name)
        ]
        points[tracked.data.tags["normsweep.trial"]] = Counter((m.key, m.step) for m in history)
    return points
