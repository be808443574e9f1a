"""Optimiser steps: what a rank does with its slices of the batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainers.backbones.drop_path import factors_of_step, rates_of
from trainers.ema import Ema
from trainers.engine import Engine
from trainers.kernels import tf32
from trainers.spec import RunSpec, TrainingSpec
from trainers.tasks.patches import TrainingPatches


def learning_rate(training: TrainingSpec, step: int) -> float:
    """The rate of `step`, from 0: `lr`, times `lr_factor` for each milestone that is reached."""
    milestones = sum(step >= round(fraction * training.steps) for fraction in training.halve_lr_at)
    return training.lr * training.lr_factor**milestones


def micro_batches(spec: RunSpec, rank: int) -> list[slice]:
    """This rank's slices of the global batch, one per forward pass of a step."""
    start = rank * spec.accumulation * spec.micro_batch
    return [
        slice(start + i * spec.micro_batch, start + (i + 1) * spec.micro_batch)
        for i in range(spec.accumulation)
    ]


def data_workers(spec: RunSpec, device: torch.device) -> int:
    """The number of processes that prepare this rank's patches in advance."""
    asked = spec.placement.data_workers
    if asked is not None:
        return asked
    # On a GPU one core is left to the rank. On a CPU its threads use them all.
    return spec.placement.cpus_per_worker - 1 if device.type == "cuda" else 0


class Steps:
    """The steps of one rank from `first` on, in order; the EMA follows each."""

    def __init__(
        self, spec: RunSpec, engine: Engine, ema: Ema, patches: TrainingPatches, first: int
    ) -> None:
        self._training = spec.training
        self._engine = engine
        self._ema = ema
        self._slices = micro_batches(spec, engine.rank)
        self._rates = rates_of(engine.module)
        places = (
            (step, part) for step in range(first, spec.training.steps) for part in self._slices
        )
        device = engine.device
        self._batches = patches.stream(
            places, data_workers(spec, device), pinned=device.type == "cuda"
        )

    def take(self, step: int) -> float:
        """Take one optimiser step and return this rank's mean loss."""
        training, engine = self._training, self._engine
        engine.set_lr(learning_rate(training, step))
        # Nothing of ours draws from torch's generator, but a user's norm may.
        torch.manual_seed(training.seed * 1_000_003 + step)
        total = torch.zeros((), dtype=torch.float64, device=engine.device)
        for part in self._slices:
            lq, gt = next(self._batches)
            factors = factors_of_step(self._rates, training.seed, step, part)
            with tf32(training.precision == "tf32"):
                output = engine.forward(
                    self._moved(lq), None if factors is None else self._moved(factors)
                )
                loss = nn.functional.l1_loss(output.float(), self._moved(gt))
                engine.backward_and_step(loss)
            total += loss.detach() / len(self._slices)
        engine.average_buffers()
        with engine.full_state() as state:
            self._ema.update(state)
        return total.item()

    def _moved(self, batch: Tensor) -> Tensor:
        return batch.to(self._engine.device, non_blocking=True)
