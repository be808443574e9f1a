"""A run that MLflow outlasts names the command that sends the rest, as it is to be entered."""

from __future__ import annotations

import shlex
from pathlib import Path

from orchestrator.plan import load_plan
from orchestrator.run.mirroring import sync_command
from orchestrator.run.options import RunOptions
from tests.sweeps import write_sweep


def test_the_command_names_file_store_mlflow_and_data(tmp_path: Path) -> None:
    plan = load_plan(write_sweep(tmp_path / "a folder"))
    options = RunOptions("s3://b/runs", "http://mlflow:5000", data_roots=("/d 1",))
    assert shlex.split(sync_command(plan, options)) == [
        *("normsweep", "sync", str(tmp_path / "a folder/chaos.yaml")),
        *("--store", "s3://b/runs", "--tracking", "http://mlflow:5000", "--data", "/d 1"),
    ]


def test_the_command_has_no_password(tmp_path: Path) -> None:
    plan = load_plan(write_sweep(tmp_path))
    said = sync_command(plan, RunOptions("runs", "http://ada:s3cr3t@mlflow:5000"))
    assert "s3cr3t" not in said
    assert "--tracking" not in said
