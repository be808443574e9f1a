"""Keeps a gang from one trial to the next, with the processes that are warm for its ranks."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.run.gang import Assignment, Gang, draining_nodes
from trainers.spec import PlacementSpec


def gang_for(assignment: Assignment, waiting: Callable[[], None], before: Gang | None) -> Gang:
    """The gang of the trial before, if it can train this one too, or a new one.

    Both are in the placement group of the trainable that calls this.
    """
    if before is None:
        return Gang(assignment, waiting)
    are_alike = _needs(before.spec.placement) == _needs(assignment.spec.placement)
    if not are_alike or draining_nodes() & before.nodes:
        before.end()
        return Gang(assignment, waiting)
    before.take(assignment)
    return before


def _needs(placement: PlacementSpec) -> tuple[object, ...]:
    """What a worker and the process that is warm for its ranks depend on."""
    return placement.workers, placement.cpus_per_worker, placement.gpus, placement.device
