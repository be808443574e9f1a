"""Checks that trials fit on GPUs and nodes, and orders their start.

`gpus_per_worker: auto` becomes a number here, gangs need nodes with room, and trials that share a
GPU must fit into its memory.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from orchestrator.plan.cost import Costs
from orchestrator.plan.gpus import Gpus
from orchestrator.plan.source import Location, Problem
from trainers.spec import PlacementSpec, RunSpec

if TYPE_CHECKING:
    from orchestrator.plan.expand import Plan
    from orchestrator.plan.trial import Trial

GB = 10**9
LISTED = 5  # trials that a message names


def placed(plan: Plan, gpus: Gpus, among: AbstractSet[str] | None = None) -> Plan:
    """The plan on these GPUs, with a number for every `auto` and the costs that follow.

    Raises UserError if trials that share a GPU would not fit into its memory; with `among`, only
    trials with these ids are checked.
    """
    placements: dict[int, PlacementSpec] = {}  # by the id of what is written in the file
    costs = Costs()
    trials = tuple(_on(trial, gpus, placements, costs) for trial in plan.trials)
    checked = [trial for trial in trials if among is None or trial.id in among]
    if problems := sharing_problems(checked, gpus):
        raise plan.source.error(problems)
    return dataclasses.replace(plan, trials=trials)


def _on(trial: Trial, gpus: Gpus, placements: dict[int, PlacementSpec], costs: Costs) -> Trial:
    placement = trial.spec.placement
    if placement.gpus_per_worker != "auto":
        return trial
    if id(placement) not in placements:
        wanted = {"cpu": 0, "cuda": 1, "auto": gpus.auto}[placement.device]
        changed = placement.model_copy(update={"gpus_per_worker": float(wanted)})
        placements[id(placement)] = changed
    spec = trial.spec.model_copy(update={"placement": placements[id(placement)]})
    return dataclasses.replace(trial, spec=spec, cost=costs.of(spec))


def with_placement(spec: RunSpec, **changes: Any) -> RunSpec:
    """The same trial with another placement."""
    return spec.model_copy(update={"placement": spec.placement.model_copy(update=changes)})


def waits_for_gpus(plan: Plan) -> bool:
    """Whether any trial's device depends on the GPUs that nodes turn out to have."""
    placements = (trial.spec.placement for trial in plan.trials)
    return any(p.gpus_per_worker == "auto" and p.device == "auto" for p in placements)


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


def wants_cuda(plan: Plan, why: str, among: AbstractSet[str] | None = None) -> list[Problem]:
    """A problem at every `device: cuda` of the file, if a trial has it where there is no CUDA.

    `why` says why there is none, as in "this machine has no GPU". With `among`, only trials with
    these ids count.
    """
    trials = [
        t.name
        for t in plan.trials
        if t.spec.placement.device == "cuda" and (among is None or t.id in among)
    ]
    if not trials:
        return []
    more = f" and {len(trials) - LISTED} more" if len(trials) > LISTED else ""
    message = (
        f"cuda, but {why}: {', '.join(trials[:LISTED])}{more} cannot train there. "
        "Write auto or cpu, or run on a machine with CUDA"
    )
    resources = plan.source.value.get("resources", {})
    places: list[tuple[Location, Any]] = [(("resources",), resources)]
    places += [
        (("resources", "overrides", i), rule)
        for i, rule in enumerate(resources.get("overrides", ()))
    ]
    return [
        Problem((*place, "device"), message)
        for place, fields in places
        if fields.get("device") == "cuda"
    ]


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
