"""A gang at every ZeRO stage computes what a single process does: every norm on SwinIR, i-LN and
LayerNorm on the other backbones.

`make conformance` (NORMSWEEP_CONFORMANCE=all) tests every norm on every backbone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.zero_gang import NETWORKS, STAGES, chosen
from trainers.catalog import NORMS
from trainers.choice import Choice
from trainers.conformance import Case

EVERYTHING = os.environ.get("NORMSWEEP_CONFORMANCE") == "all"
PAIRS = list(chosen(EVERYTHING))
# A part of the distance that the whole network moves in three steps. Adam turns gradients that are
# nothing but rounding (of the keys' biases, which attention ignores) into steps of full length, so
# single numbers differ. A slice left out or seen twice makes it about 1.
ROUNDING = 0.02


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of weights, by how they were trained: by a `gang` of two, `alone` in the same
    micro-batches, or `whole` in one.
    """
    runs = {"gang": (2, 2), "alone": (1, 2), "whole": (1, 4)}
    folders = {name: tmp_path_factory.mktemp(name) for name in runs}
    everything = ["all"] if EVERYTHING else []
    processes = []
    for name, (ranks, micro_batch) in runs.items():
        launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        gang = ["tests.zero_gang", str(folders[name]), str(micro_batch), *everything]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", *launcher, "-m", *gang],
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    for process in processes:
        output, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, output.decode()[-4000:]
    return folders


def apart(norm: str, backbone: str, one: Path, other: Path) -> float:
    """|one - other| over the distance from the start, all parameters together."""
    start = dict(Case(Choice(name=norm), NETWORKS[backbone]).build().float().named_parameters())
    a, b = (torch.load(path, weights_only=True) for path in (one, other))
    difference, way = (
        sum((x[name] - y[name]).square().sum() for name in start) ** 0.5
        for x, y in ((a, b), (b, start))
    )
    assert way > 0
    return (difference / way).item()


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("norm", "backbone"), PAIRS)
def test_a_gang_of_any_stage_equals_a_single_process_in_the_same_micro_batches(
    weights: dict[str, Path], norm: str, backbone: str, stage: int
) -> None:
    gang = weights["gang"] / f"{norm}@{backbone}@{stage}.pt"
    assert apart(norm, backbone, gang, weights["alone"] / f"{norm}@{backbone}@0.pt") < ROUNDING


@pytest.mark.parametrize(("norm", "backbone"), PAIRS)
def test_the_micro_batch_matters_only_to_norms_that_say_so(
    weights: dict[str, Path], norm: str, backbone: str
) -> None:
    gang = weights["gang"] / f"{norm}@{backbone}@0.pt"
    difference = apart(norm, backbone, gang, weights["whole"] / f"{norm}@{backbone}@0.pt")
    assert (difference > 5 * ROUNDING) == bool(NORMS[norm].facts.get("statistics_of_micro_batch"))
    assert (difference < ROUNDING) == ("slices_add_up" not in NORMS[norm].facts.get("breaks", ()))


@pytest.mark.parametrize("stage", STAGES)
def test_running_statistics_are_updated_once_a_step_with_the_mean_over_the_ranks(
    weights: dict[str, Path], stage: int
) -> None:
    """Alone, six micro-batches update them; in the gang, three steps do.

    (tests.zero_gang asserts that ranks agree.)
    """
    gang, alone = (
        torch.load(weights[how] / f"batch_norm@swinir@{of}.pt", weights_only=True)
        for how, of in (("gang", stage), ("alone", 0))
    )
    for name in (name for name in gang if "running_mean" in name):
        share = (gang[name].norm() / alone[name].norm()).item()
        assert abs(share - (1 - 0.9**3) / (1 - 0.9**6)) < 0.01, name
