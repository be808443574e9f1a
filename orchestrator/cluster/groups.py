"""The groups of worker pods that a plan needs: how many pods, how large, for which ranks. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.cluster.options import JobOptions
from orchestrator.errors import UserError
from orchestrator.plan import Plan, Trial
from orchestrator.plan.fit import ranks_on_one

# Kueue takes 18 sets of pods; the head and the submitter are two of them.
MOST_GROUPS_IN_QUEUE = 16
GPU_RANK_BYTES = 4 << 30  # assumed: Python, torch, CUDA's context, batches on their way
LOADER_BYTES = 512 << 20  # assumed: a process that makes patches
GIB = 1 << 30


@dataclass(frozen=True)
class WorkerGroup:
    """`replicas` to `most` identical pods, each for `workers` ranks.

    A rank has `cpus` CPUs and `gpus` GPUs, which may be a fraction.
    """

    name: str
    replicas: int
    most: int
    workers: int
    cpus: int
    gpus: float
    memory_gib: int

    @property
    def pod_gpus(self) -> int:
        """The GPUs of a pod, rounded up: Kubernetes knows only whole ones."""
        return math.ceil(self.gpus * self.workers)


def worker_groups(plan: Plan, options: JobOptions) -> tuple[WorkerGroup, ...]:
    """Make a group for each shape of worker, that is, the CPUs and GPUs of a rank.

    A group has enough pods for its largest gang, or as many as `options` ask for. Raises UserError
    if there are more groups than Kueue takes.
    """
    shapes: dict[tuple[float, int], list[Trial]] = {}
    for trial in plan.trials:
        placement = trial.spec.placement
        shapes.setdefault((placement.gpus, placement.cpus_per_worker), []).append(trial)
    groups = []
    for (gpus, cpus), trials in sorted(shapes.items()):
        # A gang that must not be split needs a pod that holds all of it.
        workers = max(
            t.spec.placement.workers if t.spec.placement.strategy == "strict_pack" else 1
            for t in trials
        )
        if 0 < gpus < 1:
            workers = ranks_on_one(gpus)  # trials of one worker, as many as share a GPU
        largest = max(t.spec.placement.workers for t in trials)
        # A group's name becomes part of its pods' names.
        name = f"gpu{gpus:g}-cpu{cpus}".replace(".", "p") if gpus else f"cpu{cpus}"
        replicas = options.replicas or math.ceil(largest / workers)
        most = max(replicas, options.most_replicas or 0)
        # Ray goes by CPUs and GPUs alone, so ranks of any shape may land in this pod. It must have
        # the memory for as many of the most demanding ones as fit.
        memory = max(
            _held(shape, cpus * workers, math.ceil(gpus * workers)) * max(map(_host_bytes, others))
            for shape, others in shapes.items()
        )
        gib = math.ceil(memory / GIB) + options.spare_gib
        groups.append(WorkerGroup(name, replicas, most, workers, cpus, gpus, gib))
    if options.queue and len(groups) > MOST_GROUPS_IN_QUEUE:
        raise UserError(
            f"The sweep has {len(groups)} shapes of workers (CPUs and GPUs of a rank), each of "
            f"which needs a group of pods. Kueue takes {MOST_GROUPS_IN_QUEUE}. Give trials fewer "
            "different `resources`, or split the sweep."
        )
    return tuple(groups)


def _host_bytes(trial: Trial) -> int:
    """The memory that a rank needs on its host, besides its GPU's."""
    placement = trial.spec.placement
    if not placement.gpus:
        return trial.memory_bytes
    loaders = (
        placement.cpus_per_worker - 1 if placement.data_workers is None else placement.data_workers
    )
    return GPU_RANK_BYTES + loaders * LOADER_BYTES


def _held(shape: tuple[float, int], cpus: int, gpus: int) -> int:
    """Return how many ranks of a shape (GPUs, CPUs) fit into a pod with these CPUs and GPUs."""
    return min(cpus // shape[1], gpus * ranks_on_one(shape[0]) if shape[0] else cpus)
