"""Planning, pure: a sweep file to its trials, their identity and their cost. No torch, no ray, no service."""

from orchestrator.plan.expand import Plan, Trial, load_plan

__all__ = ["Plan", "Trial", "load_plan"]
