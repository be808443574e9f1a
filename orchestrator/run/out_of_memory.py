"""CUDA out of memory: the next attempt takes half the micro-batch, until nothing is left to halve.

The effective batch stays the same, and so does the trial: its steps are computed in more forward
passes of fewer images. The store keeps the placement of attempts that ran out of memory, and later
runs start from what was left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.plan import Trial
from orchestrator.plan.cost import cost_of
from orchestrator.plan.fit import GB, with_placement
from orchestrator.plan.identity import depends_on_micro_batch
from orchestrator.run.reports import Report
from orchestrator.store.attempts import Attempt
from orchestrator.store.records import OUT_OF_MEMORY
from trainers.catalog import NORMS
from trainers.spec import RunSpec

TRAINING = "training"
# An attempt that differs in one of these says nothing about the memory that this one has or needs.
SAME_MEMORY = ("workers", "gpus_per_worker", "zero_stage", "activation_checkpointing")
HELP = {
    "set-up": "the network, its gradients and moments do not fit at all",
    "evaluation": (
        "whole images are evaluated, which no micro_batch makes smaller; leave the set out of "
        "data.evaluate and score the trial afterwards, in tiles (the verb evaluate has --tile)"
    ),
}


def place_of(reports: Sequence[Report]) -> str:
    """The phase in which a rank ran out of memory; TRAINING if it did not say."""
    failures = [
        report.failure
        for report in reports
        if report.failure and report.failure["kind"] == OUT_OF_MEMORY
    ]
    return str(failures[0].get("during", TRAINING)) if failures else TRAINING


def smaller_micro_batch(spec: RunSpec, micro_batch: int) -> int | None:
    """The largest divisor of a worker's share of the batch that is at most half of `micro_batch`.

    None if `micro_batch` is below 2.
    """
    share = spec.training.batch_size // spec.placement.workers
    return max((n for n in range(1, micro_batch // 2 + 1) if share % n == 0), default=None)


def is_fixed(spec: RunSpec) -> bool:
    """Return whether another micro-batch would make another trial."""
    return depends_on_micro_batch(NORMS[spec.model.norm.name])


def remembered(spec: RunSpec, tried: Iterable[tuple[Attempt, Mapping[str, Any]]]) -> RunSpec:
    """The spec with the micro-batch that is left after those that ran out of memory.

    `tried` has the earlier attempts that did, each with its failure. Attempts on another placement
    do not count, nor do failures that were final: their micro-batch is tried again.
    """
    if is_fixed(spec):
        return spec
    placement = spec.placement.model_dump(mode="json")
    micro_batch = spec.micro_batch
    for attempt, failure in tried:
        was = attempt.get("placement", {})
        if failure["final"] or any(was.get(f) != placement[f] for f in SAME_MEMORY):
            continue
        size = was.get("micro_batch") or spec.training.batch_size // spec.placement.workers
        micro_batch = min(micro_batch, smaller_micro_batch(spec, size) or 1)
    return (
        spec if micro_batch == spec.micro_batch else with_placement(spec, micro_batch=micro_batch)
    )


def infeasible_because(trial: Trial, place: str) -> str | None:
    """Say why the trial cannot be trained on its placement, and what would help.

    None if a smaller micro-batch may do.
    """
    spec = trial.spec
    if place != TRAINING:
        why = (
            f"CUDA out of memory during {place}: {HELP.get(place, 'no micro_batch changes that')}."
        )
    elif is_fixed(spec):
        why = (
            f"CUDA out of memory with a micro-batch of {spec.micro_batch}; {spec.model.norm.name} "
            "takes its statistics from the micro-batch, so a smaller one would make another trial."
        )
    elif smaller_micro_batch(spec, spec.micro_batch) is None:
        why = (
            f"CUDA out of memory with a micro-batch of {spec.micro_batch}: "
            "nothing is left to halve."
        )
    else:
        return None
    return (
        f"{why} A worker takes about {cost_of(spec).memory_bytes / GB:.1f} GB. "
        f"What would help: {_needed(spec)}."
    )


def _needed(spec: RunSpec) -> str:
    placement = spec.placement
    ways = []
    if not placement.activation_checkpointing:
        saved = with_placement(spec, activation_checkpointing=True)
        ways.append(
            f"activation_checkpointing: true (about {cost_of(saved).memory_bytes / GB:.1f} GB)"
        )
    if placement.workers > 1 and placement.zero_stage < 3:
        ways.append(f"a zero_stage above {placement.zero_stage}, up to 3")
    if 0 < placement.gpus < 1:
        ways.append("gpus_per_worker: 1")
    return ", ".join([*ways, "a GPU with more memory"])
