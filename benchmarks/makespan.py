"""How close launch orders come to the bound, for sweeps of gangs of mixed sizes, by simulation.

`python benchmarks/makespan.py [--sweeps 12]`: sweeps of gangs of 1 to 16 GPUs, whose times follow
a log-normal distribution (sigma 1), on three clusters. For each order it prints the largest and the
mean makespan as a multiple of the bound (orchestrator.plan.simulate), and how many sweeps of all
take more than 1.10 times as long. `work first` is the order of 0.1: by seconds times workers.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestrator.plan import Trial, load_plan
from orchestrator.plan.fit import launch_order, with_placement
from orchestrator.plan.order import order_on
from orchestrator.plan.simulate import Cluster, simulate

SWEEP = """\
# Which order is best?
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm]
  task: [sr_x2]
  seed: {seeds}
"""
CLUSTERS = ((60, Cluster(2, 8)), (200, Cluster(8, 8)), (100, Cluster(4, 4)))
WIDTHS = (1, 1, 1, 2, 4, 8, 16)
HOUR_S = 3_600.0
GOAL = 1.10


def sweep_of(trials: list[Trial], cluster: Cluster, seed: int) -> list[Trial]:
    """Trials with gangs of random sizes, packed strictly in two sweeps of three, and times."""
    dice = random.Random(seed)
    widest = min(16, cluster.nodes * cluster.gpus)
    made = []
    for trial in trials:
        workers = dice.choice([width for width in WIDTHS if width <= widest])
        is_strict = 1 < workers <= cluster.gpus and seed % 3 > 0
        spec = with_placement(
            trial.spec,
            workers=workers,
            gpus_per_worker=1.0,
            strategy="strict_pack" if is_strict else "pack",
        )
        cost = replace(trial.cost, seconds=HOUR_S * math.exp(dice.gauss(0, 1)))
        made.append(replace(trial, spec=spec, cost=cost))
    return made


def main(sweeps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "order.yaml")
        file.write_text(SWEEP.format(seeds=list(range(max(n for n, _ in CLUSTERS)))))
        trials = list(load_plan(file).trials)
    for number, cluster in CLUSTERS:
        nodes = [{"CPU": cluster.each_cpus, "GPU": float(cluster.gpus)}] * cluster.nodes
        orders: dict[str, Callable[[list[Trial]], list[Trial]]] = {
            "work first": lambda some: sorted(
                some, key=lambda t: t.seconds * t.spec.placement.workers, reverse=True
            ),
            "longest first": launch_order,
            "improved": lambda some, nodes=nodes: order_on(some, nodes),  # type: ignore[misc]
        }
        for name, order in orders.items():
            ratios = []
            for seed in range(sweeps):
                some = sweep_of(trials[:number], cluster, seed)
                seconds = {trial.id: trial.seconds for trial in some}
                found = simulate(order(some), seconds, cluster)
                ratios.append(found.makespan_s / found.bound_s)
            over = sum(ratio > GOAL for ratio in ratios)
            print(
                f"{number} trials on {cluster}, {name}: at most {max(ratios):.3f}, "
                f"mean {sum(ratios) / len(ratios):.3f}, {over} of {sweeps} above {GOAL:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sweeps", type=int, default=12)
    main(parser.parse_args().sweeps)
