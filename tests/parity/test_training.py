"""Sixty steps through trainers.loop equal sixty steps of a plain PyTorch loop over the published
networks (plain_training.py).

Only the order of sums differs: in float32 by a part in 10^8 of a number. A kink of the network or
of the loss (ReLU, |output - target|) turns that into a finite difference where its argument happens
to be within rounding of zero. Of fourteen seeds, SEEDS are those at which the plain loop in float64
stays farthest from every kink: at least 6e-7 of the typical argument. Restormer's are the first at
which clipping acts: at least 2e-7.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.plain_training import Trained, train_plainly
from tests.ranks import ROOT, free_port, wait_for_all
from tests.tiny import tiny_spec
from trainers import journal
from trainers.choice import Choice
from trainers.data.cache import Cache
from trainers.spec import ModelSpec, RunSpec

STEPS = 60
SWINIR = {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4}
BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "swinir": SWINIR,
    "hat": {**SWINIR, "compress_ratio": 3, "squeeze_factor": 4},
    "drct": {**SWINIR, "gc": 4},
    "restormer": {
        "embed_dim": 8,
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 2, 4),
        "refinement_depth": 1,
    },
}
# Restormer keeps an image's size, and needs larger patches for several pixels on its deepest level.
TASKS = {"restormer": "denoise_25"}
PATCHES_PX = {"restormer": 16}
SEEDS = {
    "swinir": {"layer_norm": 0, "i_ln": 6},
    "hat": {"layer_norm": 1, "i_ln": 2},
    "drct": {"layer_norm": 0, "i_ln": 1},
    "restormer": {"layer_norm": 0, "i_ln": 0},
}
PAIRS = [(backbone, norm) for backbone, seeds in SEEDS.items() for norm in seeds]
CLIP = 0.2  # below the gradient norm of nearly every step


@dataclass(frozen=True)
class Variant:
    """One way to compute the same steps. `bound` says how near it must come, relative to the
    weights, to the losses and to the EMA.
    """

    placement: Mapping[str, Any]
    clip: bool = False
    bound: float = 5e-6


VARIANTS = {
    "alone": Variant({}, bound=1e-6),
    "alone, clipped": Variant({}, clip=True, bound=1e-6),
    "accumulated": Variant({"micro_batch": 2}),
    "accumulated, clipped": Variant({"micro_batch": 1}, clip=True),
    "recomputed": Variant({"activation_checkpointing": True}),
    **{
        f"two ranks, ZeRO {stage}": Variant({"workers": 2, "zero_stage": stage})
        for stage in range(4)
    },
    **{
        f"two ranks, ZeRO {stage}, accumulated, clipped": Variant(
            {"workers": 2, "zero_stage": stage, "micro_batch": 1}, clip=True
        )
        for stage in (1, 3)
    },
}


# How steps are divided depends neither on the backbone nor on the norm, so SwinIR with layer_norm
# stands for the others in most variants. `make conformance` runs them all.
FOR_ALL = (
    "alone",
    "alone, clipped",
    "accumulated",
    "recomputed",
    "two ranks, ZeRO 1, accumulated, clipped",
)
EVERYTHING = os.environ.get("NORMSWEEP_CONFORMANCE") == "all"
CASES = [
    (*pair, name)
    for pair in PAIRS
    for name in VARIANTS
    if EVERYTHING or name in FOR_ALL or pair == ("swinir", "layer_norm")
]


def spec_of(backbone: str, norm: str, variant: Variant) -> RunSpec:
    clip = CLIP if variant.clip else None
    recipe = {
        "steps": STEPS,
        "lr": 2e-4,
        "ema_decay": 0.95,
        "seed": SEEDS[backbone][norm],
        "clip_grad_norm": clip,
        "patch_size_px": PATCHES_PX.get(backbone, 8),
    }
    observe = {"log_every": 1, "probe_every": STEPS, "checkpoint_every": STEPS}
    task = TASKS.get(backbone, "sr_x2")
    tiny = tiny_spec(task=task, training=recipe, observe=observe, placement=variant.placement)
    choice = Choice(name=backbone, knobs=BACKBONES[backbone])
    return tiny.model_copy(update={"model": ModelSpec.with_defaults(choice, Choice(name=norm))})


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folders of every backbone, norm and variant. Three processes train them: one rank
    alone, and two together.
    """
    folder = tmp_path_factory.mktemp("ours")
    names: dict[int, list[str]] = {1: [], 2: []}
    for number, (backbone, norm, name) in enumerate(CASES):
        spec = spec_of(backbone, norm, VARIANTS[name])
        (folder / f"{number}.json").write_text(spec.to_json())
        names[spec.placement.workers].append(str(number))
    port = free_port()
    ranks, logs = [], []
    for workers in names:
        for rank in range(workers):
            arguments = [str(argument) for argument in (folder, rank, workers, port)]
            command = [sys.executable, "-m", "tests.parity.train_many", *arguments]
            logs.append(folder / f"{workers}-{rank}.log")
            with logs[-1].open("w") as log:  # not a pipe: a rank would stop once it is full
                place = {"cwd": ROOT, "stdout": log, "stderr": log}
                ranks.append(subprocess.Popen([*command, *names[workers]], **place))
    wait_for_all(ranks, logs, deadline_s=3000)
    return folder


@pytest.fixture(scope="module")
def plain(
    spandrel_archs, published_restormer, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str, bool], Trained]:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    archs = {**spandrel_archs, "restormer": published_restormer}
    return {
        (backbone, norm, clip): train_plainly(
            archs, spec_of(backbone, norm, Variant({}, clip)), cache
        )
        for backbone, norm in PAIRS
        for clip in (False, True)
    }


def read(out: Path) -> tuple[list[float], dict[str, Tensor], dict[str, Tensor]]:
    """Losses, weights and EMA of a run folder."""
    records = journal.read(out / "journal.jsonl")
    losses = [
        float(r["values"]["train/loss"]) for r in records if "train/loss" in r.get("values", {})
    ]
    checkpoint = out / "checkpoints" / f"step-{STEPS:08d}"
    weights, ema = (
        torch.load(checkpoint / name, weights_only=True) for name in ("weights.pt", "ema.pt")
    )
    return losses, weights, ema


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """|one - other|, all tensors together."""
    return math.sqrt(
        sum((one[name].double() - other[name].double()).square().sum().item() for name in other)
    )


def relative(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return distance(one, other) / distance(other, {name: torch.zeros(()) for name in other})


@pytest.mark.timeout(3300)  # the first waits for all trainings
@pytest.mark.parametrize(("backbone", "norm", "name"), CASES)
def test_sixty_steps_equal_a_plain_loop(
    ours: Path, plain: dict[tuple[str, str, bool], Trained], backbone: str, norm: str, name: str
) -> None:
    variant, expected = VARIANTS[name], plain[backbone, norm, VARIANTS[name].clip]
    losses, weights, ema = read(ours / str(CASES.index((backbone, norm, name))) / "rank-0")
    off = {
        "loss": max(abs(a - b) / b for a, b in zip(losses, expected.losses, strict=True)),
        "weights": relative(weights, expected.weights),
        "EMA": relative(ema, expected.ema),
        "of the update": distance(weights, expected.weights)
        / distance(expected.initial, expected.weights),
    }
    print(
        f"| {backbone} | {norm} | {name} | "
        + " | ".join(f"{value:.1e}" for value in off.values())
        + " |"
    )
    assert max(off["loss"], off["weights"], off["EMA"]) <= variant.bound, off


def test_what_clipping_does_would_be_noticed(plain: dict[tuple[str, str, bool], Trained]) -> None:
    """Clipping moves results by over a hundred bounds, so the tests above would see it."""
    for backbone, norm in PAIRS:
        clipped, free = plain[backbone, norm, True], plain[backbone, norm, False]
        assert relative(clipped.weights, free.weights) > 100 * 5e-6
