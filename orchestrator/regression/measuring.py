"""Measures what a gate asks: every question of every candidate, with the numbers that there are."""

from __future__ import annotations

from orchestrator.plan.expand import Plan
from orchestrator.plan.gate import GatePlan
from orchestrator.regression.cases import Against, Ground, as_asked
from orchestrator.regression.gates import GATES
from orchestrator.regression.measured import Measured
from orchestrator.report.claims.material import Material
from orchestrator.report.frame import Frame
from orchestrator.store.base import Store


def measure(plan: Plan, frame: Frame, store: Store) -> tuple[Measured, ...]:
    """The answers to every question of the sweep's gate: candidate by candidate, in file order.

    Raises:
        UserError: the baseline's file, or the other sweep's, cannot be read.
        EnvironmentProblem: the store cannot be read.
        ValueError: the sweep has no gate.
    """
    if plan.gate is None:
        raise ValueError(f"{plan.path} has no gate")
    ground = _ground(plan, plan.gate, as_asked(frame), store)
    return tuple(
        answer for case in ground.cases for gate in GATES.values() for answer in gate(case)
    )


def _ground(plan: Plan, gate: GatePlan, frame: Frame, store: Store) -> Ground:
    own = Material(plan, frame)
    ground = Ground(plan, gate, store, own, own, Against(frame, gate.norm))
    # A baseline whose knobs are spelled out may be folded into another norm.
    against = Against(frame, ground.folded.get(gate.norm, gate.norm))
    return Ground(plan, gate, store, own, own, against)
