"""What probes cost beside training, on the network of HAT-mini with two groups: on and off in turn.

`python benchmarks/probes.py [ROUNDS] [IMAGES]`, default 5 rounds, and 16 images in a step and in
the probe batch. A round takes a training step, the forward pass of the probe batch without probes,
with the default ones, with all of them and with each alone, on one core. Times are CPU seconds,
which other processes do not lengthen: medians over rounds.

A probing is the forward pass with what the probes compute. Its share of the step time is that at
the default cadence: seconds of a probing / (`probe_every` * seconds of a step). The step is a plain
one, without DeepSpeed or data, which would make the share smaller.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional as F

from trainers.build import build_model
from trainers.catalog import PROBES
from trainers.choice import Choice
from trainers.probes.base import ProbeBatch
from trainers.spec import DataSpec, ModelSpec, ObserveSpec, RunSpec, TrainingSpec

ROUNDS = 5
LIMIT = 0.01  # of the step time, for the default probes
OBSERVE = ObserveSpec()
SPEC = RunSpec(
    model=ModelSpec.with_defaults(
        Choice(name="hat-mini", knobs={"depths": (6, 6), "num_heads": (6, 6)}), Choice(name="i_ln")
    ),
    task=Choice(name="sr_x2"),
    data=DataSpec(train="none", train_sha256="0" * 64),
    training=TrainingSpec(patch_size_px=32),
    observe=OBSERVE,
)


def stepper(model: nn.Module, images: int) -> Callable[[], None]:
    """A training step as the recipe has it, on images that are always the same."""
    optimiser, side = torch.optim.Adam(model.parameters(), lr=2e-4), SPEC.training.patch_size_px
    lq, gt = (torch.rand(images, 3, size, size) for size in (side, 2 * side))

    def step() -> None:
        model.train()
        F.l1_loss(model(lq), gt).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def prober(model: nn.Module, images: int, names: Iterable[str]) -> Callable[[], None]:
    side = SPEC.training.patch_size_px
    batch = ProbeBatch(model, torch.rand(images, 3, side, side))
    makers = {name: PROBES[name].load() for name in names}

    def probe() -> None:
        batch.measure(makers)

    return probe


def measured(rounds: int, images: int) -> dict[str, float]:
    """CPU seconds of a step and of each kind of probing."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build_model(SPEC)
    cases = {
        "step": stepper(model, images),
        "none": prober(model, images, ()),
        "default": prober(model, images, OBSERVE.probes),
        "all": prober(model, images, PROBES.names),
        **{name: prober(model, images, [name]) for name in PROBES.names},
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, case in cases.items():
            started = time.process_time()
            case()
            if turn:  # the first one warms up
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main(rounds: int = ROUNDS, images: int = OBSERVE.probe_patches) -> int:
    """Print the costs; the exit code says whether the default probes keep below LIMIT."""
    seconds = measured(rounds, images)
    step, bare = seconds.pop("step"), seconds["none"]
    print(
        f"a step of {images} images: {step:.2f} s; probes run every {OBSERVE.probe_every} steps\n"
    )
    print(f"{'probes':16s} {'a probing, s':>12s} {'beyond the pass, s':>19s} {'of step time':>13s}")
    shares = {name: taken / (OBSERVE.probe_every * step) for name, taken in seconds.items()}
    for name, taken in seconds.items():
        print(f"{name:16s} {taken:12.3f} {taken - bare:19.3f} {shares[name]:13.2%}")
    kept = shares["default"] <= LIMIT
    print(f"\nThe default probes, {', '.join(OBSERVE.probes)}: {shares['default']:.2%}, ", end="")
    print(f"{'at most' if kept else 'MORE THAN'} {LIMIT:.0%} of the step time")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
