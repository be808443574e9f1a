"""Checks that trials fit on GPUs and nodes, and orders their start.

Gangs need nodes with room, and trials that share a GPU must fit into its memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.plan.gpus import Gpus
from orchestrator.plan.source import Problem
from orchestrator.plan.trial import Trial
from trainers.spec import RunSpec

GB = 10**9
LISTED = 5  # trials that a message names


def with_placement(spec: RunSpec, **changes: Any) -> RunSpec:
    """The same trial with another placement."""
    return spec.model_copy(update={"placement": spec.placement.model_copy(update=changes)})


def sharing_problems(trials: Iterable[Trial], gpus: Gpus | None = None) -> list[Problem]:
    """A problem for each trial on a fraction of a GPU that needs more than its share of the memory.

    Trials on GPUs of unknown memory are passed over.
    """
    sharing = [trial for trial in trials if 0 < trial.spec.placement.gpus < 1]
    alike = len({trial.spec.placement.gpus for trial in sharing}) == 1
    problems = []
    for trial in sharing:
        size_gb, fraction = _memory_gb(trial, gpus), trial.spec.placement.gpus
        if size_gb is None:
            continue
        # With one fraction throughout, a GPU holds a known number of workers, and each may take its
        # part of the whole. With several, Ray may combine any of them: each has its own fraction.
        share_gb = size_gb / ranks_on_one(fraction) if alike else size_gb * fraction
        if trial.memory_bytes > share_gb * GB:
            problems.append(Problem(trial.gpus_at, _too_much(trial, size_gb, share_gb)))
    return problems


def ranks_on_one(fraction: float) -> int:
    """The number of workers with this fraction that Ray puts on one GPU."""
    return math.floor(1 / fraction + 1e-9)  # the quotient may fall just short of a whole number


def _too_much(trial: Trial, size_gb: float, share_gb: float) -> str:
    fraction, needed_gb = trial.spec.placement.gpus, trial.memory_bytes / GB
    fitting = int(size_gb / needed_gb)
    if fitting > 1:
        fits = f"{math.ceil(100 / fitting) / 100:g} would fit"
    elif fitting:
        fits = "only a whole GPU (1) would fit"
    else:
        fits = (
            "not even a whole GPU would do, "
            "but a smaller micro_batch or activation_checkpointing may help"
        )
    return (
        f"{fraction:g} of a GPU of {size_gb:g} GB is {share_gb:.3g} GB, but a worker of "
        f"{trial.name} takes about {needed_gb:.3g} GB; {fits} "
        "(`gpu_memory_gb` says how large a GPU is)"
    )


def too_large_for_a_gpu(trials: Iterable[Trial], gpus: Gpus | None = None) -> list[str]:
    """Warnings about trials on whole GPUs whose estimate exceeds the memory of one."""
    warnings = []
    for trial in trials:
        if trial.spec.placement.gpus != 1:
            continue
        size_gb = _memory_gb(trial, gpus)
        if size_gb is not None and trial.memory_bytes > size_gb * GB:
            warnings.append(
                f"{trial.name}: a worker takes about {trial.memory_bytes / GB:.0f} GB, a GPU has "
                f"{size_gb:g} GB. It may run out of memory, and would then go on with a smaller "
                "micro_batch."
            )
    if len(warnings) <= LISTED:
        return warnings
    return [*warnings[:LISTED], f"... and {len(warnings) - LISTED} more like these."]


def _memory_gb(trial: Trial, gpus: Gpus | None) -> float | None:
    """The memory of one of the trial's GPUs: as the sweep file says, else as its kind has."""
    return trial.gpu_memory_gb or (gpus.memory_gb if gpus else None)


def does_not_fit(trial: Trial, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Why nodes with these resources (`CPU`, `GPU`) can never hold the trial's gang; else None."""
    placement = trial.spec.placement
    cpus, gpus, workers = placement.cpus_per_worker, placement.gpus, placement.workers
    room = [
        min(
            int(node.get("CPU", 0) // cpus),
            int(node.get("GPU", 0)) * ranks_on_one(gpus) if gpus else workers,
        )
        for node in nodes
    ]
    held = max(room, default=0) if placement.strategy == "strict_pack" else sum(room)
    if held >= workers:
        return None
    each = f"{cpus} CPU" + (f" and {gpus:g} GPU" if gpus else "")
    where = (
        "one node"
        if placement.strategy == "strict_pack"
        else f"{len(nodes)} node{'s' * (len(nodes) != 1)}"
    )
    have = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
    gang = f"{workers} workers of {each} each do" if workers > 1 else f"a worker of {each} does"
    return f"{gang} not fit on {where} ({have}): {held} would"


def launch_order(trials: Iterable[Trial]) -> list[Trial]:
    """The trials in the order to start them: the longest first, and of equals the widest gang.

    A long trial that started last would leave the other workers idle, however few it has itself.
    Of the simple orders this keeps closest to the bound (benchmarks/makespan.py).
    """
    return sorted(
        trials, key=lambda trial: (trial.seconds, trial.spec.placement.workers), reverse=True
    )


def misplaced(placement: Mapping[str, Any]) -> tuple[str, str] | None:
    """(field, message) if these fields of `resources` contradict each other; else None."""
    gpus, workers = placement["gpus_per_worker"], placement["workers"]
    if gpus != "auto" and 0 < gpus < 1 and workers > 1:
        message = (
            f"{gpus:g}: two of the {workers} ranks of a gang could get the same GPU, "
            "which NCCL refuses. Give each worker of a gang 1"
        )
        return "gpus_per_worker", message
    if placement["device"] == "cuda" and gpus == 0:
        return (
            "device",
            "cuda, but gpus_per_worker is 0: give workers a GPU (1, a fraction, or auto)",
        )
    return None
