"""Planning: from a sweep file to its trials, their identity and their cost.

It is pure: no torch, no ray, no service.
"""

from orchestrator.plan.expand import Plan, Trial, load_plan
from orchestrator.plan.gpus import Gpus
from orchestrator.plan.on_gpus import placed

__all__ = ["Gpus", "Plan", "Trial", "load_plan", "placed"]
