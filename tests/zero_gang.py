"""Trains many small networks for a few steps in one gang, at every ZeRO stage, for
tests/contract/test_zero.py to compare.

    python -m tests.zero_gang OUT MICRO_BATCH [all]          alone, or under torchrun

Writes OUT/<norm>@<backbone>@<stage>.pt, the weights after STEPS steps on a batch of 4 images, and
prints nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from trainers.catalog import NORMS
from trainers.choice import Choice
from trainers.conformance import SHAPES, Case
from trainers.engine import Engine
from trainers.spec import PlacementSpec, RunSpec, TrainingSpec

BATCH, STEPS = 4, 3
NETWORKS = {backbone: f"{backbone}, same size" for backbone in SHAPES}
STAGES = (0, 1, 2, 3)


def chosen(everything: bool) -> Iterator[tuple[str, str]]:
    """Pairs of norm and backbone: every norm on SwinIR, i_ln and layer_norm on the others.

    With `everything`, every norm on every backbone.
    """
    for entry in NORMS:
        for backbone in NETWORKS:
            if everything or backbone == "swinir" or entry.name in ("i_ln", "layer_norm"):
                yield entry.name, backbone


def spec_of(norm: str, backbone: str, stage: int, world_size: int, micro_batch: int) -> RunSpec:
    spec = Case(Choice(name=norm), NETWORKS[backbone]).spec()
    placement = PlacementSpec(
        workers=world_size, micro_batch=micro_batch, zero_stage=stage, device="cpu"
    )
    training = TrainingSpec(patch_size_px=8, batch_size=BATCH, lr=1e-3)
    return RunSpec(**{**dict(spec), "training": training, "placement": placement})


def trained(spec: RunSpec) -> Engine:
    torch.manual_seed(0)
    case = Case(spec.model.norm, NETWORKS[spec.model.backbone.name])
    engine = Engine(case.build().float(), spec, torch.device("cpu"))
    size = (BATCH, 3, case.side_px, case.side_px)
    images, targets = (
        torch.rand(size, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    start = engine.rank * spec.accumulation * spec.micro_batch
    for _ in range(STEPS):
        for i in range(spec.accumulation):
            part = slice(start + i * spec.micro_batch, start + (i + 1) * spec.micro_batch)
            engine.backward_and_step(
                nn.functional.l1_loss(engine.forward(images[part]), targets[part])
            )
        engine.average_buffers()
    statistics = [
        value.tolist() for name, value in engine.module.named_buffers() if "running" in name
    ]
    assert all(of_rank == statistics for of_rank in engine.gather_objects(statistics)), (
        "ranks differ in statistics"
    )
    return engine


def main() -> None:
    out, micro_batch = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    for norm, backbone in chosen("all" in sys.argv[3:]):
        for stage in STAGES if world_size > 1 else (0,):
            engine = trained(spec_of(norm, backbone, stage, world_size, micro_batch))
            with engine.full_state() as state:
                if engine.rank == 0:
                    weights = {name: value.detach().clone() for name, value in state.items()}
                    torch.save(weights, out / f"{norm}@{backbone}@{stage}.pt")
    engine.close()


if __name__ == "__main__":
    main()
