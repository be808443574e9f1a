"""A rank that is forked from a warm process trains as one that is started afresh.

All of it with two threads: the libraries of a forked process must make their pools anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from orchestrator.run.ranks import Rank, Ranks
from tests.tiny import tiny_spec
from trainers.catalog import NORMS
from trainers.spec import RunSpec

ROOT = Path(__file__).parents[2]
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "clang++", "nvcc", "ninja", "ld", "as")
DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compilers say that they were called: those that `environment` finds first."""
    return tmp_path_factory.mktemp("compilers") / "called"


@pytest.fixture(scope="module")
def environment(compiled: Path) -> dict[str, str]:
    for name in COMPILERS:
        file = compiled.parent / name
        file.write_text(f"#!/bin/sh\necho {name} $* >> {compiled}\nexit 1\n")
        file.chmod(0o755)
    ours = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    path = os.pathsep.join([str(compiled.parent), ours["PATH"]])
    more = {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "LOCAL_RANK": "0"}
    return {**ours, **more, "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def warm(environment: dict[str, str]) -> Iterator[Ranks]:
    ranks = Ranks(environment, cuda=False)
    yield ranks
    ranks.end()


def spec_of(norm: str, steps: int = 2) -> RunSpec:
    observe = {"evaluate": (), "probe_every": 2, "checkpoint_every": 2}
    return tiny_spec(norm=norm, training={"steps": steps}, observe=observe)


def start(ranks: Ranks, spec: RunSpec, out: Path) -> Rank:
    out.mkdir()
    (out / "spec.json").write_text(spec.to_json())
    arguments = [str(out / "spec.json"), "--out", str(out)]
    return ranks.start(arguments, {"RANK": "0", "WORLD_SIZE": "1"}, out / "rank.log")


def weights(out: Path) -> dict[str, torch.Tensor]:
    folder = out / "checkpoints" / "step-00000002"
    files = {
        name: torch.load(folder / name, weights_only=True) for name in ("weights.pt", "ema.pt")
    }
    return {f"{name}/{key}": t for name, tensors in files.items() for key, t in tensors.items()}


def assert_same_bits(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), f"{one}: {key}"


def wait_for(condition, deadline_s: float = DEADLINE_S) -> None:
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def forked(warm: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every norm's trial, each in a fork of the same process."""
    folder = tmp_path_factory.mktemp("forked")
    for entry in NORMS:
        rank = start(warm, spec_of(entry.name), folder / entry.name)
        assert rank.wait() == 0, (folder / entry.name / "rank.log").read_text()
        assert type(rank).__name__ == "Forked"
    return folder


def test_forks_have_the_bits_of_a_process_that_forked_nothing(
    environment: dict[str, str], forked: Path, tmp_path: Path
) -> None:
    names = [entry.name for entry in NORMS]
    for name in names:
        (tmp_path / f"{name}.json").write_text(spec_of(name).to_json())
    command = [sys.executable, "-m", "tests.parity.train_many", str(tmp_path), "0", "1", "0"]
    subprocess.run([*command, *names], env=environment, check=True)
    for name in names:
        assert_same_bits(forked / name, tmp_path / name / "rank-0")


def test_the_last_fork_has_the_bits_of_a_fresh_process(
    environment: dict[str, str], forked: Path, tmp_path: Path
) -> None:
    norm = [entry.name for entry in NORMS][-1]
    (tmp_path / "spec.json").write_text(spec_of(norm).to_json())
    command = [sys.executable, "-m", "trainers", str(tmp_path / "spec.json"), "--out"]
    subprocess.run([*command, str(tmp_path / "out")], env=environment, check=True)
    assert_same_bits(forked / norm, tmp_path / "out")


def test_no_compiler_runs_at_the_start_of_a_rank(
    environment: dict[str, str], forked: Path, compiled: Path
) -> None:
    assert not compiled.exists(), compiled.read_text()
    subprocess.run(["gcc"], env=environment, check=False)
    assert compiled.exists(), "this test would see it"


def test_a_rank_shows_its_own_command(warm: Ranks, tmp_path: Path) -> None:
    rank = start(warm, spec_of("i_ln", steps=100_000), tmp_path / "out")
    try:
        shown = psutil.Process(rank.pid)
        wait_for(lambda: str(tmp_path / "out") in shown.cmdline())
        assert shown.cmdline()[1:4] == ["-P", "-m", "trainers"]
    finally:
        rank.kill()
    assert rank.wait() == -9


def test_a_rank_that_was_asked_to_end_leaves_a_checkpoint(warm: Ranks, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rank = start(warm, spec_of("i_ln", steps=100_000), out)
    wait_for(
        lambda: (
            (out / "journal.jsonl").exists() and "train/loss" in (out / "journal.jsonl").read_text()
        )
    )
    rank.send_signal(15)
    assert rank.wait() == 75
    assert list((out / "checkpoints").glob("step-*/manifest.rank-0.json"))


def test_without_its_warm_process_a_rank_ends_and_the_next_starts_afresh(
    environment: dict[str, str], warm: Ranks, tmp_path: Path
) -> None:
    """The last of the tests that need the warm process."""
    rank = start(warm, spec_of("i_ln", steps=100_000), tmp_path / "one")
    process = psutil.Process(rank.pid)
    wait_for(lambda: str(tmp_path / "one") in process.cmdline())
    process.parent().kill()
    assert rank.wait() == -9
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    rank = start(warm, spec_of("i_ln"), tmp_path / "two")
    assert isinstance(rank, subprocess.Popen)
    rank.kill()
    assert rank.wait() == -9
    assert "started afresh" in (tmp_path / "two" / "rank.log").read_text()
