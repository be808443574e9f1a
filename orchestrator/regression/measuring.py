"""Measures what a gate asks: every question of every candidate, with the numbers that there are."""

from __future__ import annotations

from pathlib import Path

from orchestrator.plan.expand import Plan, load_plan
from orchestrator.plan.gate import GatePlan
from orchestrator.regression.baseline import read_baseline
from orchestrator.regression.beside import Other, beside
from orchestrator.regression.cases import Against, Ground, as_asked
from orchestrator.regression.gates import GATES
from orchestrator.regression.measured import Measured
from orchestrator.report.claims.material import Material
from orchestrator.report.frame import Frame, read_frame
from orchestrator.store.base import Store
from trainers import own as own_norms


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
    if gate.file is not None:
        kept = read_baseline(gate.file)
        name = gate.file.name
        both = beside(plan, frame, kept.other(), name)
        against = Against(f"{{norm}} of {name}", kept.sha256, kept.weights)
    elif gate.sweep is not None:
        other = load_plan(gate.sweep, writes_baseline=True)  # what it compares does not matter
        own_norms.look_in(plan.path.parent, Path.cwd())  # and no longer beside the other file
        specs = {trial.id: trial.spec for trial in other.trials}
        there = Other(as_asked(read_frame(other, store)), specs)
        both = beside(plan, frame, there, gate.sweep.name)
        against = Against(f"{{norm}} of {gate.sweep.name}")
    else:
        both, against = frame, Against(gate.norm)
    return Ground(plan, gate, store, own, own if both is frame else Material(plan, both), against)
