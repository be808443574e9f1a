"""Keeps a gang from one trial to the next, with the processes that are warm for its ranks."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.run.gang import Assignment, Gang
from orchestrator.run.nodes import draining_nodes
from orchestrator.store.leases import Lease
from trainers.spec import PlacementSpec


def gang_for(assignment: Assignment, waiting: Callable[[], None], before: Gang | None) -> Gang:
    """The gang of the trial before, if it can train this one too, or a new one.

    Both are in the placement group of the trainable that calls this.
    """
    if before is None or before.has_ended:
        return Gang(assignment, waiting)
    are_alike = _needs(before.spec.placement) == _needs(assignment.spec.placement)
    if not are_alike or draining_nodes() & before.nodes:
        before.end()
        return Gang(assignment, waiting)
    before.take(assignment, waiting)
    return before


def let_go(lease: Lease | None, gang: Gang | None = None) -> None:
    """Renew a lease no more, and end a gang. There is neither if another run held each lease."""
    if lease is not None:
        lease.let_go()
    if gang is not None:
        gang.end()


def _needs(placement: PlacementSpec) -> tuple[object, ...]:
    """What a worker and the process that is warm for its ranks depend on."""
    return placement.workers, placement.cpus_per_worker, placement.gpus, placement.device
