"""CUDA out of memory, imitated by a norm that raises torch's error: half the micro-batch with the
same batch, or infeasible.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps import assert_same_bits, environment, normsweep, results, write_sweep

HUNGRY = """
import torch
from torch import nn
from trainers.norms.base import Norm, Normed


class Hungry(Norm):
    '''Takes at most `images` images of at most `tokens` tokens at once.'''

    def __init__(self, dim, images=2, tokens=10**9):
        super().__init__()
        self.images, self.tokens = images, tokens
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        if x.shape[0] > self.images or x.shape[1] > self.tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return Normed(x * self.weight)
"""


def sweep(folder: Path, *norms: str, resources: str = "", evaluate: str = "") -> Path:
    file = write_sweep(
        folder, norms=", ".join(f"{{name: 'hungry:Hungry', {knobs}}}" for knobs in norms), steps=4
    )
    text = file.read_text().replace("workers: 1", f"workers: 1{resources}")
    file.write_text(text.replace("evaluate: []", f"evaluate: [{evaluate}]"))
    (folder / "hungry.py").write_text(HUNGRY)
    return file


def tried(folder: Path, limit: int) -> list[dict[str, Any]]:
    """The placements of all attempts at the trial whose norm takes `limit` images at once."""
    (spec,) = [
        path
        for path in (folder / "runs/trials").glob("*/spec.json")
        if json.loads(path.read_text())["model"]["norm"].get("images", 2) == limit
    ]
    paths = sorted(
        spec.parent.glob("attempts/*/attempt.json"), key=lambda path: int(path.parent.name)
    )
    return [json.loads(path.read_text())["placement"] for path in paths]


def sizes(folder: Path, limit: int) -> list[tuple[int, int]]:
    return [
        (placement["micro_batch"], placement["accumulation"]) for placement in tried(folder, limit)
    ]


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep of a trial that fits with half its micro-batch and one that never fits; its run."""
    folder = tmp_path_factory.mktemp("hungry")
    file = sweep(folder, "images: 2", "images: 0")
    return folder, normsweep(folder, "run", file, expect=4)


def test_half_the_micro_batch_gives_the_bits_of_a_run_that_began_with_it(
    ended, tmp_path: Path
) -> None:
    folder, done = ended
    assert sizes(folder, 2) == [(4, 1), (2, 2)], done.stderr
    assert "trains with 2, accumulated 2 times, which is the same batch" in done.stderr
    file = sweep(tmp_path, "images: 2", resources=", micro_batch: 2")
    undisturbed = normsweep(tmp_path, "run", file)
    assert "ran out of CUDA memory" not in undisturbed.stderr
    assert_same_bits(folder, tmp_path)


def test_where_nothing_is_left_to_halve_a_trial_is_infeasible(ended) -> None:
    folder, done = ended
    assert sizes(folder, 0) == [(4, 1), (2, 2), (1, 4)], done.stderr
    assert "1 done, 0 diverged, 0 failed, 1 infeasible, 0 pending" in done.stderr
    said = done.stderr[done.stderr.index("infeasible: ") :]
    assert "CUDA out of memory with a micro-batch of 1: nothing is left to halve." in said
    assert (
        "A worker takes about 0.6 GB. "
        "What would help: activation_checkpointing: true (about 0.6 GB)"
    ) in said
    assert len(results(folder)) == 1, "an infeasible trial has no result"
    counts = json.loads(normsweep(folder, "status", "chaos.yaml", "--json").stdout)
    assert (counts["done"], counts["infeasible"], counts["failed"]) == (1, 1, 0)
    page = (folder / "runs/sweeps/chaos/report/index.html").read_text()
    assert "nothing is left to halve" in page
    assert '<span class="note">micro-batch 2</span>' in page


def test_a_later_run_begins_with_the_micro_batch_that_was_left(ended) -> None:
    folder, _ = ended
    before = len(tried(folder, 0)), len(tried(folder, 2))
    (result,) = (folder / "runs/trials").glob("*/result.json")
    result.unlink()
    normsweep(folder, "run", "chaos.yaml", expect=4)
    assert (len(tried(folder, 0)), len(tried(folder, 2))) == (before[0] + 1, before[1] + 1)
    assert (sizes(folder, 0)[-1], sizes(folder, 2)[-1]) == ((1, 4), (2, 2))


def test_a_rank_says_that_it_was_evaluating(tmp_path: Path) -> None:
    """Whole images do not shrink with the micro-batch, so a run gives up on it (tests/unit)."""
    file = sweep(tmp_path, "images: 4, tokens: 64", evaluate="embedded-test")
    plan = json.loads(normsweep(tmp_path, "plan", file, "--json", "--no-state").stdout)
    (tmp_path / "run.json").write_text(json.dumps(plan["trials"][0]["spec"]))
    rank = [sys.executable, "-m", "trainers", "run.json", "--out", "out"]
    done = subprocess.run(
        rank, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 1
    failure = json.loads((tmp_path / "out/failure-rank-0.json").read_text())
    assert (failure["kind"], failure["during"]) == ("cuda_oom", "evaluation")
